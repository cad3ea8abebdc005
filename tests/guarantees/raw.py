"""Bytes to a server as they stand in a test, and what comes back: HTTP libraries are too polite to attack with.

Knows HTTP/1.1 as h11 reads it, and nothing of the hub. Every wait has a deadline.
"""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import h11

from tests.harness import DEADLINE_S

Header = tuple[str, str]


def request(method: str, path: str, *headers: Header | str, body: bytes = b"", host: str | None = "localhost") -> bytes:
    """A request. Without a header that tells a length, the body's own is told; a header as a text stands as it is."""
    lines = [f"{method} {path} HTTP/1.1"]
    lines += [] if host is None else [f"Host: {host}"]
    told = [header if isinstance(header, str) else f"{header[0]}: {header[1]}" for header in headers]
    if body and not any(line.lower().startswith(("content-length", "transfer-encoding")) for line in told):
        told.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*lines, *told, "", ""]).encode("latin-1") + body


def chunk(data: bytes) -> bytes:
    """One chunk of a body whose length is open; an empty one ends it."""
    return b"%x\r\n%b\r\n" % (len(data), data)


@dataclass
class Response:
    """One response; `headers` by lower-case names."""

    status: int
    headers: dict[str, str]
    body: bytes = b""
    whole: bool = False

    @property
    def closes(self) -> bool:
        """Whether it says that nothing more comes on this connection."""
        return self.headers.get("connection", "").lower() == "close"


@dataclass
class Heard:
    """Everything that came back on one connection."""

    responses: list[Response] = field(default_factory=list[Response])
    interim: list[int] = field(default_factory=list[int])
    ended: bool = False
    """Whether the server has hung up."""

    @property
    def last(self) -> Response:
        """The last response. Raises IndexError when nothing came."""
        return self.responses[-1]

    @property
    def statuses(self) -> list[int]:
        return [response.status for response in self.responses]


class Talk:
    """One connection. A context manager: leaving it hangs up."""

    def __init__(self, port: int, heads: Sequence[str] = ()) -> None:
        """`heads`: the methods of the requests, where one is HEAD, whose response has no body."""
        self.socket = socket.create_connection(("127.0.0.1", port), DEADLINE_S)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._heads = list(heads)
        self._reader: h11.Connection | None = None
        self._left = b""
        self.heard = Heard()

    def __enter__(self) -> Talk:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def finish(self) -> None:
        """Say that nothing more comes, and go on listening."""
        with contextlib.suppress(OSError):
            self.socket.shutdown(socket.SHUT_WR)

    def send(self, *pieces: bytes | Iterable[bytes]) -> None:
        """Send what the server takes; one that hangs up meanwhile is no error."""
        with contextlib.suppress(OSError):
            for piece in pieces:
                for part in [piece] if isinstance(piece, bytes) else piece:
                    self.socket.sendall(part)

    def send_meanwhile(self, *pieces: bytes | Iterable[bytes]) -> threading.Thread:
        """The same, beside whoever reads: a server may answer long before it has everything."""
        sender = threading.Thread(target=self.send, args=pieces, daemon=True)
        sender.start()
        return sender

    def hear(self, responses: int | None = None, timeout: float = DEADLINE_S) -> Heard:
        """Read until so many responses in all are whole, or the server has hung up. Raises AssertionError."""
        until = time.monotonic() + timeout
        self._parse()
        while not self.heard.ended and (responses is None or self._whole() < responses):
            self._read(until)
            self._parse()
        return self.heard

    def begun(self, timeout: float = DEADLINE_S) -> Response:
        """Read until a response has begun: a stream has no end. Raises AssertionError."""
        until = time.monotonic() + timeout
        self._parse()
        while not self.heard.responses:
            assert not self.heard.ended, self.heard
            self._read(until)
            self._parse()
        return self.heard.last

    def _whole(self) -> int:
        return sum(response.whole for response in self.heard.responses)

    def _read(self, until: float) -> None:
        self.socket.settimeout(max(0.01, until - time.monotonic()))
        try:
            data = self.socket.recv(1 << 16)
        except TimeoutError:
            raise AssertionError(f"nothing more came, and nobody hung up: {self.heard}") from None
        except OSError:
            data = b""
        if data:
            self._left += data
            return
        self.heard.ended = True
        if self._reader is not None:
            with contextlib.suppress(h11.RemoteProtocolError):
                self._reader.receive_data(b"")
                self._take(self._reader)

    def _parse(self) -> None:
        while self._left:
            if self._reader is None:
                method = self._heads.pop(0) if self._heads else "GET"
                self._reader = h11.Connection(h11.CLIENT, max_incomplete_event_size=1 << 20)
                self._reader.send(h11.Request(method=method, target="/", headers=[("Host", "x")]))
                self._reader.send(h11.EndOfMessage())
            given, self._left = self._left, b""
            self._reader.receive_data(given)
            self._take(self._reader)

    def _take(self, reader: h11.Connection) -> None:
        while True:
            event = reader.next_event()
            if isinstance(event, h11.InformationalResponse):
                self.heard.interim.append(event.status_code)
            elif isinstance(event, h11.Response):
                headers = {name.decode(): value.decode("latin-1") for name, value in event.headers}
                self.heard.responses.append(Response(event.status_code, headers))
            elif isinstance(event, h11.Data):
                self.heard.last.body += bytes(event.data)
            elif isinstance(event, h11.EndOfMessage):
                self.heard.last.whole = True
                self._left = reader.trailing_data[0]
                self._reader = None
                return
            else:
                return
