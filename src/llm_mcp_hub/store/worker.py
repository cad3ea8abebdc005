"""One thread that does jobs in turn. Unlike an executor's it keeps no process from ending: a disk may hold it."""

from __future__ import annotations

import atexit
import threading
from collections.abc import Callable
from concurrent.futures import Future
from queue import SimpleQueue
from typing import Any, TypeVar
from weakref import WeakKeyDictionary, finalize

T = TypeVar("T")
EXIT_S = 5.0
"""How long a process that ends waits for a job that has begun: a record may be in it."""
_Jobs = SimpleQueue["tuple[Future[Any], Callable[[], Any]] | None"]
_threads: WeakKeyDictionary[threading.Thread, _Jobs] = WeakKeyDictionary()


class Worker:
    """Its thread begins with the first job, and ends with `close` or with this object."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._jobs: _Jobs = SimpleQueue()
        self._doing: list[Future[Any]] = []
        self._closed = False
        self._adding = threading.Lock()
        self._thread: threading.Thread | None = None
        finalize(self, self._jobs.put, None)

    @property
    def doing(self) -> Future[Any] | None:
        """The job that has begun and is not done; None between two."""
        return next(iter(self._doing), None)

    def submit(self, job: Callable[[], T]) -> Future[T]:
        """Do it when those before are done. Raises RuntimeError once it is closed, or where no thread can be had."""
        future: Future[T] = Future()
        with self._adding:
            if self._closed:
                raise RuntimeError("closed")
            if self._thread is None:
                thread = threading.Thread(target=_do, args=(self._jobs, self._doing), name=self._name, daemon=True)
                thread.start()
                self._thread = thread
                _threads[thread] = self._jobs
            self._jobs.put((future, job))
        return future

    def close(self, *, given_up: bool = False) -> None:
        """No more jobs; those that there are get done. `given_up`: the end of the process does not wait for that."""
        with self._adding:
            self._closed = True
            self._jobs.put(None)
            if given_up and self._thread is not None:
                _threads.pop(self._thread, None)


def _do(jobs: _Jobs, doing: list[Future[Any]]) -> None:
    while (held := jobs.get()) is not None:
        future, job = held
        if future.set_running_or_notify_cancel():
            doing.append(future)
            try:
                result = job()
            except BaseException as error:  # whoever waits for it is told
                doing.clear()
                future.set_exception(error)
            else:
                doing.clear()
                future.set_result(result)
                del result
        del held, future, job  # or they would be kept until the next one comes


@atexit.register
def _finish() -> None:
    begun = list(_threads.items())
    for _, jobs in begun:
        jobs.put(None)
    for thread, _ in begun:
        thread.join(EXIT_S)
