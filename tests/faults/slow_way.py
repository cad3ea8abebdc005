"""A way to a server on loopback that can be made slow, or cut: bytes there and back, of any protocol."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from typing import Self


class SlowWay:
    """Takes connections on `port` and passes them on. A context manager."""

    def __init__(self, to: int) -> None:
        self._to = to
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.delay_s = 0.0
        """Each piece of an answer is held so long."""
        self._ends: set[socket.socket] = set()
        self._open = True

    def cut(self) -> None:
        """End every connection that there is, in the middle of whatever it carries."""
        for end in list(self._ends):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def __enter__(self) -> Self:
        threading.Thread(target=self._take, name="slow way", daemon=True).start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._open = False
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.cut()

    def _take(self) -> None:
        while self._open:
            try:
                here, _ = self._listener.accept()
            except OSError:
                return
            try:
                there = socket.create_connection(("127.0.0.1", self._to))
            except OSError:
                here.close()
                continue
            self._ends |= {here, there}
            for one, other, slow in ((here, there, False), (there, here, True)):
                threading.Thread(target=self._pass_on, args=(one, other, slow), daemon=True).start()

    def _pass_on(self, one: socket.socket, other: socket.socket, slow: bool) -> None:
        with contextlib.suppress(OSError):
            while data := one.recv(1 << 16):
                if slow and self.delay_s:
                    time.sleep(self.delay_s)
                other.sendall(data)
        for end in (one, other):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()
            self._ends.discard(end)
