"""The protocol that `serve` gives uvicorn, with few places and little patience: who is let go, and who is not."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncGenerator
from contextlib import ExitStack, asynccontextmanager
from typing import Any, cast

import pytest
import uvicorn
from starlette.types import Receive, Scope, Send

from llm_mcp_hub.serving import connections

pytestmark = pytest.mark.anyio
DEADLINE_S = 60.0
GET = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"
CHUNK = b"x" * (1 << 20)
LAST = b"4\r\ndone\r\n0\r\n\r\n"
UVICORNS_S = 1
"""uvicorn's own clock of a connection without a request, which must not count."""
SNDBUF = 64 << 10
"""What the system keeps of an answer for the server, twice over; the rest is the server's own."""


async def disconnected(receive: Receive) -> None:
    """Return when the client has gone."""
    while (await receive())["type"] != "http.disconnect":
        pass


class App:
    """Answers when it may; or without end, as fast as it is read; or so many bytes."""

    def __init__(self) -> None:
        self.gate = asyncio.Event()
        self.open = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.open += 1
        try:
            await send({"type": "http.response.start", "status": 200, "headers": []})
            if scope["path"] == "/endless":
                left = asyncio.ensure_future(disconnected(receive))
                while not self.gate.is_set() and not left.done():
                    await send({"type": "http.response.body", "body": CHUNK, "more_body": True})
                    await asyncio.sleep(0)
                left.cancel()
            elif scope["path"] == "/much":
                await send({"type": "http.response.body", "body": bytes(int(scope["query_string"])), "more_body": True})
            else:
                await self.gate.wait()
            await send({"type": "http.response.body", "body": b"done"})
        finally:
            self.open -= 1

    async def until_open(self, count: int) -> None:
        async with asyncio.timeout(DEADLINE_S):
            while self.open != count:
                await asyncio.sleep(0.01)


class Served:
    """A server of a test's own."""

    def __init__(self, app: App, port: int, refused: list[str], server: uvicorn.Server) -> None:
        self.app = app
        self.port = port
        self._server = server
        self.refused = refused
        """The reasons of all refusals so far."""
        self._writers: list[asyncio.StreamWriter] = []

    async def connect(self, sent: bytes = b"") -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port, limit=1 << 16)
        self._writers.append(writer)
        writer.write(sent)
        return reader, writer

    def unsent(self) -> list[int]:
        """The bytes of each of its connections that the system has not taken yet."""
        transports = [cast(Any, one).transport for one in self._server.server_state.connections]
        return [transport.get_write_buffer_size() for transport in transports]

    def closing(self) -> bool:
        """Whether any connection is being closed, when all that stands ready has been taken."""
        return any(cast(Any, one).transport.is_closing() for one in self._server.server_state.connections)

    def leave(self) -> None:
        for writer in self._writers:
            writer.transport.abort()


@asynccontextmanager
async def served(*, most: int = 100, head_s: float = DEADLINE_S, idle_s: float = DEADLINE_S) -> AsyncGenerator[Served]:
    app, refused = App(), list[str]()
    listening = socket.create_server(("127.0.0.1", 0))
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SNDBUF)
    protocol = connections.guarded(refused.append, most=most, head_s=head_s, idle_s=idle_s)
    config = uvicorn.Config(
        app,
        http=protocol,
        ws="none",
        lifespan="off",
        log_config=None,
        timeout_keep_alive=UVICORNS_S,
        timeout_graceful_shutdown=1,
    )
    server = uvicorn.Server(config)
    serving = asyncio.ensure_future(server.serve(sockets=[listening]))
    one = Served(app, listening.getsockname()[1], refused, server)
    try:
        yield one
    finally:
        app.gate.set()
        one.leave()
        server.should_exit = True
        await asyncio.wait_for(serving, DEADLINE_S)


def reader_of_little(hub: Served) -> socket.socket:
    """A client for which the system keeps as little as it can."""
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    client.connect(("127.0.0.1", hub.port))
    return client


def much(size: int, connection: str) -> bytes:
    """A request for an answer of so many bytes."""
    return f"GET /much?{size} HTTP/1.1\r\nHost: localhost\r\nConnection: {connection}\r\n\r\n".encode()


async def all_of(reader: asyncio.StreamReader) -> bytes:
    """All that comes until the other side has closed."""
    async with asyncio.timeout(DEADLINE_S):
        return await reader.read()


async def test_where_all_are_being_answered_a_newcomer_is_told_when_to_come_back() -> None:
    """503, and the answers go on. Where one of them waits for a request, it makes room."""
    async with served(most=2) as hub:
        first, _ = await hub.connect(GET)
        second, _ = await hub.connect(GET)
        await hub.app.until_open(2)
        turned_away = await all_of((await hub.connect())[0])
        assert hub.refused == ["connections"]
        hub.app.gate.set()
        answers = [await asyncio.wait_for(reader.readuntil(b"done"), DEADLINE_S) for reader in (first, second)]
        third, _ = await hub.connect(GET)
        came = await asyncio.wait_for(third.readuntil(b"done"), DEADLINE_S)

        assert turned_away.startswith(b"HTTP/1.1 503 ")
        head, _, body = turned_away.partition(b"\r\n\r\n")
        assert b"Retry-After: 10" in head
        assert b"llm-mcp-hub: here" in head, "a probe that comes then has met a hub all the same"
        assert f"Content-Length: {len(body)}".encode() in head
        assert all(answer.startswith(b"HTTP/1.1 200") for answer in [*answers, came])
        assert (await all_of(first)).strip(b"0\r\n") == b""
        assert hub.refused == ["connections"] * 2


async def test_who_is_being_answered_is_let_go_by_no_clock() -> None:
    """Not while it waits for the first byte of it; and the connection can be used again afterwards."""
    async with served(head_s=0.2) as hub:
        answered, writer = await hub.connect(GET)
        await hub.app.until_open(1)
        for _ in range(3):
            assert await all_of((await hub.connect(GET[:9]))[0]) != b""
        hub.app.gate.set()
        assert (await asyncio.wait_for(answered.readuntil(b"done"), DEADLINE_S)).startswith(b"HTTP/1.1 200")
        writer.write(GET)

        assert b"200 OK" in await asyncio.wait_for(answered.readuntil(b"done"), DEADLINE_S)
        assert set(hub.refused) == {"head_time"}


async def test_requests_one_after_another_are_answered_in_one_go() -> None:
    """A client may send the next before it has the answer to the last."""
    async with served(head_s=DEADLINE_S) as hub:
        hub.app.gate.set()
        reader, _ = await hub.connect(GET * 5)
        for _ in range(5):
            assert b"200 OK" in await asyncio.wait_for(reader.readuntil(b"done"), DEADLINE_S)
        assert hub.refused == []


async def test_an_answer_that_was_asked_for_before_the_last_one_came_has_its_time() -> None:
    """However much longer it takes than a connection may be idle."""
    async with served(head_s=0.2, idle_s=0.2) as hub:
        reader, _ = await hub.connect(much(4, "keep-alive") + GET)
        assert (await asyncio.wait_for(reader.readuntil(b"done"), DEADLINE_S)).startswith(b"HTTP/1.1 200")
        await hub.app.until_open(1)
        await asyncio.sleep(UVICORNS_S + 0.5)
        hub.app.gate.set()

        assert (await all_of(reader)).endswith(LAST)
        assert hub.refused == []


async def test_a_connection_is_kept_for_the_next_request() -> None:
    """Longer than a head may take, and uvicorn's own clock does not count. From its first byte on the next head has the
    time of any other."""
    async with served(head_s=0.2) as hub:
        hub.app.gate.set()
        reader, writer = await hub.connect(GET)
        for _ in range(2):
            assert b"200 OK" in await asyncio.wait_for(reader.readuntil(LAST), DEADLINE_S)
            assert hub.refused == []
            await asyncio.sleep(UVICORNS_S + 0.5)
            writer.write(GET)
        assert b"200 OK" in await asyncio.wait_for(reader.readuntil(LAST), DEADLINE_S)
        writer.write(GET[:9])

        assert (await all_of(reader)).startswith(b"HTTP/1.1 408 ")
        assert hub.refused == ["head_time"]


async def test_a_connection_without_a_next_request_ends() -> None:
    """Without a word: it has done nothing wrong. Also where the rest of a body has come after the answer."""
    late = b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 4\r\n\r\n"
    async with served(idle_s=0.2) as hub:
        hub.app.gate.set()
        idle, _ = await hub.connect(GET)
        reader, writer = await hub.connect(late)
        came = await asyncio.wait_for(reader.readuntil(LAST), DEADLINE_S)
        writer.write(b"rest")

        assert (await all_of(idle)).endswith(LAST)
        assert came.startswith(b"HTTP/1.1 200")
        assert await all_of(reader) == b""
        assert hub.refused == []


async def test_a_reader_that_takes_nothing_is_let_go_in_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that is slow is not: it takes something in each span. What it is sent has no end here."""
    monkeypatch.setattr(connections, "STALL_S", 2.0)
    endless = GET.replace(b"/ ", b"/endless ")
    async with served() as hub:
        slow, _ = await hub.connect(endless)
        await hub.app.until_open(1)
        with socket.create_connection(("127.0.0.1", hub.port)) as deaf:
            deaf.sendall(endless)
            await hub.app.until_open(2)
            async with asyncio.timeout(DEADLINE_S):
                while hub.app.open == 2:
                    assert await slow.read(1 << 16)

        assert await asyncio.wait_for(slow.read(1), DEADLINE_S)
        assert hub.app.open == 1


@pytest.mark.parametrize("connection", ["keep-alive", "close", "keep-alive, and its own side ends"])
async def test_of_whatever_a_reader_does_not_take_nothing_is_kept(
    connection: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not even of one whose answer the system has taken but for a little: no buffer is ever full then."""
    monkeypatch.setattr(connections, "STALL_S", 1.0)
    kind, _, ends = connection.partition(",")
    async with served(idle_s=1.0) as hub:
        with ExitStack() as clients:
            for kib in range(0, 400, 8):
                client = clients.enter_context(reader_of_little(hub))
                client.sendall(much(kib << 10, kind))
                if ends:
                    client.shutdown(socket.SHUT_WR)
            few = 0
            async with asyncio.timeout(DEADLINE_S):
                while (unsent := hub.unsent()) or not few:
                    few = max(few, sum(0 < left < 64 << 10 for left in unsent))
                    await asyncio.sleep(0.01)


async def nearly_taken() -> int:
    """The size of an answer that the system takes for such a reader but for a few KiB."""
    sizes = range(32 << 10, 400 << 10, 8 << 10)
    async with served() as hub:
        with ExitStack() as clients:
            for size in sizes:
                clients.enter_context(reader_of_little(hub)).sendall(much(size, "keep-alive"))
            async with asyncio.timeout(DEADLINE_S):
                while not (max(unsent := hub.unsent(), default=0) > 64 << 10 and len(unsent) == len(sizes)):
                    await asyncio.sleep(0.01)
            return next(size for size, left in zip(sizes, sorted(unsent), strict=True) if left > 16 << 10)


async def test_a_slow_reader_gets_all_of_an_answer_that_is_complete(monkeypatch: pytest.MonkeyPatch) -> None:
    """Though it is closed behind that, and the server sees nothing of what it takes from the system for a while."""
    size = await nearly_taken()
    monkeypatch.setattr(connections, "STALL_S", 3.0)
    came = b""
    async with served(idle_s=0.2) as hub:
        with reader_of_little(hub) as slow:
            slow.sendall(much(size, "keep-alive"))
            while not hub.closing():
                await asyncio.sleep(0.01)
            assert max(hub.unsent()) > 0
            slow.setblocking(False)
            while piece := await asyncio.wait_for(asyncio.get_running_loop().sock_recv(slow, 1024), DEADLINE_S):
                came += piece
                await asyncio.sleep(0.2 if max(hub.unsent(), default=0) else 0.0)

    assert bytes(size) in came
    assert came.endswith(LAST)


async def test_who_made_room_and_takes_nothing_is_not_kept_beside_those_who_have_a_place() -> None:
    """Newcomers could pile up as many of them as they like."""
    size = await nearly_taken()
    async with served(most=4) as hub:
        with ExitStack() as clients:
            for _ in range(12):
                clients.enter_context(reader_of_little(hub)).sendall(much(size, "keep-alive"))
                await asyncio.sleep(0.05)
            before = len(hub.unsent())
            async with asyncio.timeout(DEADLINE_S):
                while len(hub.unsent()) > 4:
                    await asyncio.sleep(0.01)
    assert before > 4


async def test_a_client_that_sends_on_can_read_why_it_was_closed() -> None:
    """What it still sends is dropped; a reset would have taken the answer away."""
    async with served() as hub:
        reader, writer = await hub.connect(b"GET / HTTP/1.1\r\nX: " + b"x" * (1 << 20))

        async with asyncio.timeout(DEADLINE_S):
            await writer.drain()
        assert (await all_of(reader)).startswith(b"HTTP/1.1 400 ")
