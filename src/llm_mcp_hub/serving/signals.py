"""Signals that end a process, heard on a loop, and before and beside the server that handles them. Knows no server."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys
import threading
from collections.abc import Callable, Generator, Iterable
from types import FrameType

ENDING = (signal.SIGTERM, signal.SIGINT)
LEAVING = (*ENDING, signal.SIGBREAK) if sys.platform == "win32" else (*ENDING, signal.SIGHUP)
"""The same, and what comes when the terminal goes away."""


def on_loop(numbers: Iterable[signal.Signals], then: Callable[[signal.Signals], object]) -> None:
    """Call `then` on the running loop at each of these signals, in place of what was called before.

    On the main thread. On Windows a loop hears no signal by itself, and a wait of its own is not interrupted by one.
    """
    loop = asyncio.get_running_loop()
    for number in numbers:
        if sys.platform != "win32":
            loop.add_signal_handler(number, then, number)
        else:
            signal.signal(number, lambda number, _frame: loop.call_soon_threadsafe(then, signal.Signals(number)))


class Early:
    """Those that come before a server listens for them: none is lost, and none ends a process half-way through."""

    def __init__(self) -> None:
        """From now on they end nothing by themselves. Call it on the main thread."""
        self.came = False
        self.then: Callable[[], None] = lambda: None
        """Called at each one, within the signal's handler."""
        for number in ENDING:
            signal.signal(number, self._hear)

    def _hear(self, _number: int, _frame: FrameType | None) -> None:
        self.came = True
        self.then()


@contextlib.contextmanager
def overheard(note: Callable[[], None]) -> Generator[None]:
    """As long as this lasts, `note` is called at each one, before whoever handles it.

    Only where somebody does, and on the main thread: where a signal ends a process at once there is nothing to prepare.
    `note` runs within the signal's handler.
    """
    wrapped: dict[signal.Signals, tuple[Callable[..., object], Callable[..., object]]] = {}
    if threading.current_thread() is threading.main_thread():
        for number in ENDING:
            handler = signal.getsignal(number)
            if callable(handler) and handler is not signal.default_int_handler:
                wrapped[number] = (handler, _both(note, handler))
                signal.signal(number, wrapped[number][1])
    try:
        yield
    finally:
        for number, (before, ours) in wrapped.items():
            if signal.getsignal(number) is ours:  # else somebody has put another one in its place
                signal.signal(number, before)


def _both(note: Callable[[], None], handler: Callable[..., object]) -> Callable[..., object]:
    def handle(number: int, frame: FrameType | None) -> None:
        note()
        handler(number, frame)

    return handle
