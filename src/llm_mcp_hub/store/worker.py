"""One thread that does jobs in turn. Unlike an executor's it keeps no process from ending: a disk may hold it."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable
from concurrent.futures import Future
from queue import SimpleQueue
from typing import Any, TypeVar

T = TypeVar("T")
_Jobs = SimpleQueue["tuple[Future[Any], Callable[[], Any]] | None"]


class Worker:
    """Its thread begins with the first job, and ends with `close` or with this object."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._jobs: _Jobs = SimpleQueue()
        self._doing: list[Future[Any]] = []
        self._begun = self._closed = False
        self._adding = threading.Lock()
        weakref.finalize(self, self._jobs.put, None)

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
            if not self._begun:
                threading.Thread(target=_do, args=(self._jobs, self._doing), name=self._name, daemon=True).start()
                self._begun = True
            self._jobs.put((future, job))
        return future

    def close(self) -> None:
        """No more jobs; those that there are will be done."""
        with self._adding:
            self._closed = True
            self._jobs.put(None)


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
        del held, future, job
