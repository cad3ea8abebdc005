"""Connections to `serve`: how many there are, and how long one may stay without a request. Knows no route, no client.

uvicorn has no time-out for a request's head. Here it is complete in time, counted from the connection's opening or from
its first byte after an answer; what was left of a body at the answer has gone by then as well. After an answer a
connection is kept for the next request, longer than clients keep theirs. While a request is open nothing is counted,
only a reader that takes nothing at all is let go in the end. Where all places are taken, the connection that has waited
longest for a request makes room, of whoever has the most: who holds connections open cannot keep others out.

It stands on the one of uvicorn's protocols that is pure Python, on h11; DECISIONS.md says why.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from typing import Any, ClassVar, Literal, cast

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from llm_mcp_hub.serving.limits import Refused, nobody, peer_of
from llm_mcp_hub.serving.sign import SIGN, SIGNED

HEAD_S = 10.0
IDLE_S = 150.0
"""For the first byte of a next request. Whoever sends one at the moment that the connection ends has lost that call, so
it is longer than most keep an idle connection: the MCP SDK's 5 s, nginx 60, Go and Rust 90, Caddy 120."""
STALL_S = 120.0
"""For a reader to take anything of what stands ready for it."""
LINGER_S = 2.0
"""How long what is still sent is read and dropped after a connection's last answer: else that would be lost."""
HEAD_BYTES = 64 << 10
CHUNKS = 1_000
CHUNK_BYTES = 64
"""So many chunks of a body may be of any size; of more, so many bytes each on average."""
CONNECTIONS = 1_000
OTHER_FILES = 256
"""File descriptors that are not for connections: children, the store, what is read."""
WINDOWS_DESCRIPTORS = 8192
"""Of a C runtime; sockets do not even count."""
RETRY_S = 10
_FULL = f"Too many connections are open: try again in {RETRY_S} s.\n"
_NO_ROOM = (
    "HTTP/1.1 503 Service Unavailable\r\nContent-Type: text/plain; charset=utf-8\r\nConnection: close\r\n"
    f"{SIGN}: {SIGNED}\r\nRetry-After: {RETRY_S}\r\nContent-Length: {len(_FULL)}\r\n\r\n{_FULL}"
).encode()
_For = Literal["head", "answer", "request"]
"""What a connection waits for: a request's head (or the rest of a body that has been answered), the answer, or, once it
is answered, whether another request comes at all."""
_LATE = b"HTTP/1.1 408 Request Timeout\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"


def room_for(files: int) -> int:
    """How many connections a process has room for that may open so many files (negative: any number)."""
    return CONNECTIONS if files < 0 else min(CONNECTIONS, max(16, files - OTHER_FILES, files // 2))


class Room:
    """Who is connected. Other machines have half of the places each at most; this machine's own may have all."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._share = max(1, most // 2)
        self._peer: dict[object, str | None] = {}
        self._waiting: dict[str | None, dict[object, None]] = {}
        """Those without an open request by peer, the one that has waited longest first."""
        self._count: dict[str | None, int] = {}

    def __len__(self) -> int:
        return len(self._peer)

    def enter(self, one: object, peer: str | None) -> tuple[bool, object | None]:
        """Whether there is a place for one more, and which connection makes room for it. It waits for a request."""
        makes_room: object | None = None
        if peer is not None and self._count.get(peer, 0) >= self._share:
            makes_room = next(iter(self._waiting.get(peer, ())), None)
        elif len(self._peer) >= self._most:
            heaviest = max(self._waiting, key=lambda of: self._count[of], default=None)
            makes_room = next(iter(self._waiting.get(heaviest, ())), None)
        else:
            return self._enter(one, peer), None
        if makes_room is None:
            return False, None
        self.leave(makes_room)
        return self._enter(one, peer), makes_room

    def waits(self, one: object) -> None:
        """It has no request open."""
        if one in self._peer:
            self._waiting.setdefault(self._peer[one], {})[one] = None

    def busy(self, one: object) -> None:
        """It has one."""
        if one in self._peer:
            self._no_longer_waits(one, self._peer[one])

    def leave(self, one: object) -> None:
        """It has gone. May be called twice."""
        if one in self._peer:
            peer = self._peer.pop(one)
            self._no_longer_waits(one, peer)
            self._count[peer] -= 1
            if not self._count[peer]:
                del self._count[peer]

    def _enter(self, one: object, peer: str | None) -> bool:
        self._peer[one] = peer
        self._count[peer] = self._count.get(peer, 0) + 1
        self.waits(one)
        return True

    def _no_longer_waits(self, one: object, peer: str | None) -> None:
        waiting = self._waiting.get(peer, {})
        waiting.pop(one, None)
        if not waiting:
            self._waiting.pop(peer, None)


class _Patient:
    """A transport that closes in such a way that the other side can read what it was told."""

    def __init__(self, transport: asyncio.Transport, close: Callable[[], None], closes: Callable[[], bool]) -> None:
        self._transport = transport
        self.close = close
        self.is_closing = closes
        self.written = 0
        """Bytes so far."""

    def write(self, data: bytes) -> None:
        self.written += len(data)
        self._transport.write(data)

    def taken(self) -> int:
        """How many bytes of them the other side has taken, as far as the system tells."""
        return self.written - self._transport.get_write_buffer_size() - _queued(self._transport)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)


class _Thrifty(h11.Connection):
    """Takes no body in crumbs: each chunk costs as much time as some pages of text."""

    _chunks = 0
    _came = 0

    def next_event(self) -> Any:
        event: Any = super().next_event()
        if isinstance(event, h11.Request):
            self._chunks = self._came = 0
        elif isinstance(event, h11.Data):
            self._chunks += event.chunk_start
            self._came += len(event.data)
            if self._chunks > CHUNKS + self._came // CHUNK_BYTES:
                raise h11.RemoteProtocolError("a body in crumbs")
        return event


class Connection(H11Protocol):
    """One connection of `serve`."""

    room: ClassVar[Room]
    refused: ClassVar[staticmethod[[str], None]] = staticmethod(nobody)
    head_s: ClassVar[float] = HEAD_S
    idle_s: ClassVar[float] = IDLE_S

    def __init__(self, *given: Any, **named: Any) -> None:
        super().__init__(*given, **named)
        self.conn = _Thrifty(h11.SERVER, self.config.h11_max_incomplete_event_size or HEAD_BYTES)
        self._under: asyncio.Transport | None = None
        self._patient: _Patient | None = None
        self._admitted = False
        self._closing = False
        self._waits_for: _For = "head"
        self.cycle: Any = None  # uvicorn's own type does not say that there may be none
        self._next: asyncio.TimerHandle | None = None
        self._stall: asyncio.TimerHandle | None = None
        self._taken = 0
        self._patience_s = STALL_S

    # -- what happens to it --------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self._under = transport
        peername: Any = transport.get_extra_info("peername")  # of a socket file it is a text
        address = str(peername[0]) if peername and not isinstance(peername, str) else None
        self._admitted, makes_room = self.room.enter(self, peer_of(address))
        if makes_room is not None:
            self.refused("connections")
            cast(Connection, makes_room).give_way()
        if not self._admitted:
            self.refused("connections")
            transport.write(_NO_ROOM)
            transport.close()
            return
        self._patient = _Patient(transport, self._close, self._closes)
        super().connection_made(cast(asyncio.Transport, self._patient))
        self._wait(self.head_s)

    def data_received(self, data: bytes) -> None:
        if self._admitted and not self._closing:
            super().data_received(data)
            self._look()

    def send_400_response(self, msg: str) -> None:
        """As uvicorn's own, which raises when something has been answered, or is answered after it."""
        if self.cycle is not None and not self.cycle.response_complete:
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        if self.conn.our_state in {h11.IDLE, h11.SEND_RESPONSE}:
            super().send_400_response(msg)
        else:
            self._close()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._look()

    def timeout_keep_alive_handler(self) -> None:
        """Nothing: uvicorn's own clock is as long as the SDK's clients keep a connection. `_wait` has another."""

    def eof_received(self) -> None:
        self._let_go()  # asyncio would close it all the same

    def connection_lost(self, exc: Exception | None) -> None:
        self.room.leave(self)
        for timer in (self._next, self._stall):
            if timer is not None:
                timer.cancel()
        if self._admitted:
            super().connection_lost(exc)

    def pause_writing(self) -> None:
        super().pause_writing()
        self._watch_reader()

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._stall is not None and not self._closes():
            self._stall.cancel()
            self._stall = None

    # -- what is done about it -----------------------------------------------------------------------------------------

    def give_way(self) -> None:
        """Make room for another one."""
        if self._under is not None and not self._under.get_write_buffer_size():
            self._under.abort()
            return
        self._let_go()  # when its answer has been taken; it has no place any more, so it has to be quick about it
        self._patience_s = LINGER_S
        self._watch_reader()

    def _look(self) -> None:
        """What it waits for now; from when on that is another thing, that has its time."""
        waits_for: _For = "head"
        if self.cycle is not None and not self.cycle.response_complete:
            waits_for = "answer"
        elif self.cycle is not None and self.conn.their_state is h11.IDLE and not self.conn.trailing_data[0]:
            waits_for = "request"
        if waits_for == self._waits_for:
            return
        self._waits_for = waits_for
        if waits_for == "answer":
            self.room.busy(self)
            if self._next is not None:
                self._next.cancel()
        else:
            self.room.waits(self)
            self._wait(self.head_s if waits_for == "head" else self.idle_s)

    def _wait(self, seconds: float) -> None:
        if self._next is not None:
            self._next.cancel()
        self._next = self.loop.call_later(seconds, self._late)

    def _late(self) -> None:
        if self._patient is None or self._closing:
            return
        if self._waits_for == "head":
            self.refused("head_time")
            if self.conn.our_state is h11.IDLE and self.conn.trailing_data[0]:  # a part of a head
                self._patient.write(_LATE)
        self._let_go()

    def _closes(self) -> bool:
        return self._closing or self._under is None or self._under.is_closing()

    def _close(self) -> None:
        """Close as uvicorn wants it; where the other side may still be sending, tell it the end and hear it out."""
        transport = self._under
        if transport is None:
            return
        unread = self.conn.their_state in {h11.SEND_BODY, h11.ERROR}
        if self._closing or not unread or not transport.can_write_eof() or transport.is_closing():
            self._let_go()
            return
        self._closing = True
        self.flow.resume_reading()
        transport.write_eof()
        self.loop.call_later(LINGER_S, self._let_go)

    def _let_go(self) -> None:
        """Close when the reader has taken what stands ready; one that takes nothing, however little it is, goes too."""
        if self._under is None or self._under.is_closing():
            return
        self._under.close()
        if self._under.get_write_buffer_size() and self._stall is None:
            self._watch_reader()

    def _watch_reader(self) -> None:
        if self._patient is None:
            return
        if self._stall is not None:
            self._stall.cancel()
        self._taken = self._patient.taken()
        self._stall = self.loop.call_later(self._patience_s, self._stalled)

    def _stalled(self) -> None:
        self._stall = None
        if self._under is None or self._patient is None or not self._under.get_write_buffer_size():
            return
        if self._patient.taken() > self._taken:
            self._watch_reader()
        else:
            self._under.abort()


def _queued(transport: asyncio.Transport) -> int:
    """How many bytes the system holds for the other side; 0 where it does not tell.

    Linux calls a socket writable again when a third of its buffer is free: of 4 MB a reader can take one with nothing
    else to be seen of it.
    """
    if sys.platform == "win32":
        return 0
    import fcntl
    import termios

    try:
        told = fcntl.ioctl(transport.get_extra_info("socket").fileno(), termios.TIOCOUTQ, bytes(4))
    except OSError:
        return 0
    return int.from_bytes(told, sys.byteorder)


def guarded(
    refused: Refused = nobody, *, most: int | None = None, head_s: float = HEAD_S, idle_s: float = IDLE_S
) -> type[Connection]:
    """uvicorn's `http=` for one server. `most`: connections; by default as many as this process has room for."""
    room = Room(room_for(_descriptors()) if most is None else most)
    own = {"room": room, "refused": staticmethod(refused), "head_s": head_s, "idle_s": idle_s}
    return type("Guarded", (Connection,), own)


def _descriptors() -> int:
    """How many files and connections this process may have open."""
    if sys.platform == "win32":
        return WINDOWS_DESCRIPTORS
    import resource

    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]
