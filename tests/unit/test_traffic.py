"""What is told of HTTP requests: counted each, logged seldom, whatever the app behind does."""

from __future__ import annotations

from typing import Any

import pytest
import structlog
from starlette.responses import PlainTextResponse
from starlette.types import Message, Receive, Scope, Send

from llm_mcp_hub.serving.traffic import EVERY_S, SHOWN_CHARS, Meter, Metered, Refusals

pytestmark = pytest.mark.anyio


def scope_of(path: str = "/mcp", **headers: str) -> Scope:
    return {
        "type": "http",
        "method": "GET",
        "path": path,
        "headers": [(name.encode(), value.encode("latin-1")) for name, value in headers.items()],
    }


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_each_refusal_is_counted_and_few_are_logged() -> None:
    """A flood of strangers must not fill the disk; how many there were is told with the next line."""
    counted: list[str] = []
    clock = Clock()
    refusals = Refusals(counted.append, clock=clock)

    with structlog.testing.capture_logs() as lines:
        for _ in range(1000):
            refusals("host", scope_of(host="evil.example"), 421)
        refusals("origin", scope_of(host="localhost", origin="https://evil.example"), 403)
        clock.now += EVERY_S
        refusals("host", scope_of(host="evil.example"), 421)

    assert counted.count("host") == 1001
    assert counted.count("origin") == 1
    assert [(line["reason"], line["status"], line.get("more")) for line in lines] == [
        ("host", 421, None),
        ("origin", 403, None),
        ("host", 421, 999),
    ]
    assert lines[1]["origin"] == "https://evil.example"
    assert {line["host"] for line in lines} == {"evil.example", "localhost"}


def test_what_a_stranger_sent_is_not_in_the_log() -> None:
    """But for the name and the page, of which the operator may have to list one; not all of a long one."""
    with structlog.testing.capture_logs() as lines:
        headers = {"host": "h" * 9999, "authorization": "Bearer secret", "user-agent": "secret", "cookie": "secret"}
        Refusals()("no_token", scope_of("/secret", **headers), 401)

    (line,) = lines
    assert "secret" not in str(line)
    assert line["host"] == "h" * SHOWN_CHARS


async def requested(meter: Meter, app: Any, path: str = "/mcp", kind: str = "http") -> list[Message]:
    sent: list[Message] = []

    async def receive() -> Message:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Message) -> None:
        sent.append(message)

    await Metered(app, meter)({**scope_of(path), "type": kind}, receive, send)
    return sent


async def test_an_answer_is_counted_by_its_path_and_status() -> None:
    """When it is whole; and nothing of it is changed."""
    told: list[tuple[str, int]] = []
    meter = Meter(lambda path, status: told.append((path, status)))

    sent = await requested(meter, PlainTextResponse("Hello.", 418), "/health/live")

    assert told == [("/health/live", 418)]
    assert sent[-1]["body"] == b"Hello."
    assert (meter.requests, meter.streams) == (0, 0)


async def test_who_leaves_before_the_answer_begins_has_got_none() -> None:
    """A call that is cancelled, a body that breaks off: neither is a fault of the server's."""
    told: list[int] = []
    meter = Meter(lambda _path, status: told.append(status))

    async def leaves(_scope: Scope, _receive: Receive, _send: Send) -> None:
        return

    async def breaks(_scope: Scope, _receive: Receive, _send: Send) -> None:
        raise ValueError("made up")

    await requested(meter, leaves)
    assert told == []

    with pytest.raises(ValueError, match="made up"):
        await requested(meter, breaks)
    assert told == [500]
    assert meter.requests == 0


async def test_a_stream_is_open_until_it_ends() -> None:
    """It counts as one from its head on."""
    seen: list[tuple[int, int]] = []
    meter = Meter(lambda _path, _status: None)

    async def streams(_scope: Scope, _receive: Receive, send: Send) -> None:
        seen.append((meter.requests, meter.streams))
        headers = [(b"Content-Type", b"text/event-stream; charset=utf-8")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        seen.append((meter.requests, meter.streams))
        await send({"type": "http.response.body", "body": b"data: 1"})

    await requested(meter, streams)

    assert seen == [(1, 0), (1, 1)]
    assert (meter.requests, meter.streams) == (0, 0)


async def test_an_app_that_breaks_is_a_500() -> None:
    """Its server answers so; and what was open is closed."""
    told: list[int] = []
    meter = Meter(lambda _path, status: told.append(status))

    async def broken(_scope: Scope, _receive: Receive, _send: Send) -> None:
        raise ValueError("made up")

    with pytest.raises(ValueError, match="made up"):
        await requested(meter, broken)

    assert told == [500]
    assert meter.requests == 0


async def test_what_is_no_request_is_not_counted() -> None:
    """An app's start and end go through the same door."""
    told: list[int] = []
    seen: list[str] = []

    async def app(scope: Scope, _receive: Receive, _send: Send) -> None:
        seen.append(scope["type"])

    await requested(Meter(lambda _path, status: told.append(status)), app, kind="lifespan")

    assert (seen, told) == (["lifespan"], [])
