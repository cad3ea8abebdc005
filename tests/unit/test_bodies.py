"""How long and how large a body may be, under any ASGI server: what comes is scripted, time is short."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

import pytest
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from llm_mcp_hub.serving.bodies import GONE, Bodies, Bounds

pytestmark = pytest.mark.anyio
DEADLINE_S = 60.0
NEVER = Bounds(1_000, DEADLINE_S, DEADLINE_S)
QUIET = Bounds(1_000, 0.05, DEADLINE_S)
SLOW = Bounds(1_000, DEADLINE_S, 0.05)
BYTE: Message = {"type": "http.request", "body": b"x", "more_body": True}
LAST: Message = {"type": "http.request", "body": b"x", "more_body": False}


async def reads(scope: Scope, receive: Receive, send: Send) -> None:
    """An app that wants the whole body."""
    body = await Request(scope, receive).body()
    await Response(str(len(body)))(scope, receive, send)


async def looks_away(scope: Scope, receive: Receive, send: Send) -> None:
    """An app that answers from the head."""
    await Response("no")(scope, receive, send)


class Sender:
    """A server's side of one request: what comes, one after another, and then nothing more."""

    def __init__(self, *messages: Message, again: Message | None = None) -> None:
        self.messages = list(messages)
        self.again = again
        """What comes for ever after."""
        self.said: list[Message] = []
        self.refused: list[str] = []

    async def receive(self) -> Message:
        if self.messages:
            return self.messages.pop(0)
        if self.again is not None:
            await asyncio.sleep(0)
            return self.again
        await asyncio.Event().wait()
        raise AssertionError

    async def send(self, message: Message) -> None:
        self.said.append(message)

    async def meets(self, app: ASGIApp, bounds: Bounds, **headers: str) -> tuple[int, bool]:
        """The status of the answer, and whether the connection is to be closed."""
        given = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
        scope: Scope = {"type": "http", "http_version": "1.1", "method": "POST", "headers": given}
        async with asyncio.timeout(DEADLINE_S):
            await Bodies(app, bounds, self.refused.append)(scope, self.receive, self.send)
        starts = [message for message in self.said if message["type"] == "http.response.start"]
        assert len(starts) == 1
        return starts[0]["status"], (b"connection", b"close") in starts[0]["headers"]


async def test_a_body_that_comes_is_handed_on() -> None:
    """Up to its last byte."""
    sender = Sender(*[BYTE] * 999, LAST)

    assert await sender.meets(reads, NEVER, content_length="1000") == (200, False)
    assert sender.said[-1]["body"] == b"1000"
    assert sender.refused == []


async def test_a_body_that_says_that_it_is_too_large_is_not_read() -> None:
    """From its head: 413, and the connection is closed."""
    sender = Sender(LAST)

    assert await sender.meets(reads, NEVER, content_length="1001") == (413, True)
    assert (sender.refused, sender.messages) == (["body_size"], [LAST])


async def test_a_body_without_end_ends() -> None:
    """Where its length is open, what has come is counted."""
    sender = Sender(again=BYTE)

    assert await sender.meets(reads, NEVER, transfer_encoding="chunked") == (413, True)
    assert sender.refused == ["body_size"]


@pytest.mark.parametrize(
    ("bounds", "again"), [(QUIET, None), (SLOW, None), (SLOW, BYTE)], ids=["quiet", "nothing", "one byte at a time"]
)
async def test_a_body_that_does_not_come_is_not_waited_for(bounds: Bounds, again: Message | None) -> None:
    """408, whether it comes slowly or not at all."""
    sender = Sender(BYTE, again=again)

    assert await sender.meets(reads, Bounds(1 << 40, bounds.quiet_s, bounds.whole_s), content_length="9999999") == (
        408,
        True,
    )
    assert sender.refused == ["body_time"]


@pytest.mark.parametrize(
    ("length", "closed"), [({"content_length": "900"}, False), ({"transfer_encoding": "chunked"}, True)]
)
async def test_a_body_that_nobody_wants_costs_the_connection(length: dict[str, str], closed: bool) -> None:
    """Unless it is known to be short: nobody reads what has no end."""
    assert await Sender().meets(looks_away, NEVER, **length) == (200, closed)


async def test_a_body_with_two_ends_is_none() -> None:
    """By a length and by chunks: what stands before the hub may have gone by the other one."""
    sender = Sender(LAST)

    assert await sender.meets(reads, NEVER, content_length="1", transfer_encoding="chunked") == (400, True)
    assert (sender.refused, sender.messages) == (["body_form"], [LAST])


async def test_a_body_of_too_many_values_is_not_read_to_its_end() -> None:
    """Nor by whoever is behind: half of a call is none."""
    sender = Sender(again={"type": "http.request", "body": b"[" * 500, "more_body": True})

    assert await sender.meets(reads, Bounds(1 << 40), transfer_encoding="chunked") == (400, True)
    assert sender.refused == ["body_form"]


async def test_who_hangs_up_in_the_middle_of_a_body_is_no_exception() -> None:
    """Whoever reads it is stopped, and has nobody to answer."""
    sender = Sender(BYTE, again=GONE)
    scope: Scope = {"type": "http", "http_version": "1.1", "method": "POST", "headers": [(b"content-length", b"9")]}

    async with asyncio.timeout(DEADLINE_S):
        await Bodies(reads, NEVER, sender.refused.append)(scope, sender.receive, sender.send)

    assert (sender.said, sender.refused) == ([], [])


async def test_a_long_body_that_nobody_wants_costs_the_connection() -> None:
    """It is known how much that would be."""
    assert await Sender().meets(looks_away, Bounds(1 << 20), content_length="100000") == (200, True)


async def test_who_is_being_answered_is_not_hurried() -> None:
    """The answer goes on past every time, whether the request had a body or has half of one."""
    for given in ({}, {"content_length": "2"}, {"transfer_encoding": "chunked"}):
        over = asyncio.Event()
        sender = Sender(*([BYTE] if given else [{"type": "http.request", "body": b""}]))

        async def parts(over: asyncio.Event = over) -> AsyncGenerator[bytes]:
            yield b"first"
            await over.wait()
            yield b"last"

        async def streams(scope: Scope, receive: Receive, send: Send) -> None:
            await StreamingResponse(parts())(scope, receive, send)

        going = asyncio.ensure_future(sender.meets(streams, Bounds(1_000, 0.01, 0.01), **given))
        hurried = Sender(BYTE)
        assert (await hurried.meets(reads, SLOW, content_length="9"))[0] == 408  # so much time has gone by
        over.set()

        assert (await going)[0] == 200
        assert sender.said[-2]["body"] == b"last"
        assert sender.refused == []
