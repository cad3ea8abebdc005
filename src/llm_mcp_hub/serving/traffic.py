"""What goes through the app over HTTP, told to whoever counts it; outermost, so that nothing is left out.

Of who is turned away the log hears too, but seldom: a flood must not become a flood of lines.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import structlog
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

EVERY_S = 10.0
"""How often the log is told of one reason."""
SHOWN_CHARS = 100
log = structlog.stdlib.get_logger("llm_mcp_hub.traffic")


class Refusal(Response):
    """The answer to a request that is not let in, and why, in a word for those who count."""

    def __init__(self, reason: str, text: str, status: int, headers: dict[str, str] | None = None) -> None:
        super().__init__(text, status, headers)
        self.reason = reason


@dataclass(slots=True)
class _Told:
    at: float
    silent: int = 0
    """How many came since then that the log was not told of."""


class Refusals:
    """Tells of requests that were not let in: each to who counts, some to the log."""

    def __init__(
        self, count: Callable[[str], None] = lambda _reason: None, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._count = count
        self._clock = clock
        self._told: dict[str, _Told] = {}

    def __call__(self, reason: str, scope: Scope | None = None, status: int | None = None) -> None:
        """`reason` is one of ours, never a caller's word; `scope` is missing where a request has not come that far."""
        self._count(reason)
        told = self._told.get(reason)
        if told is not None and self._clock() < told.at + EVERY_S:
            told.silent += 1
            return
        self._told[reason] = _Told(self._clock())
        # No path and no agent: nothing of a stranger but what its operator has to mend.
        known: dict[str, object] = {} if scope is None else {name: _head(scope, name) for name in ("host", "origin")}
        known |= {"status": status, "more": None if told is None else told.silent or None}
        log.warning(
            "request refused", reason=reason, **{name: value for name, value in known.items() if value is not None}
        )


def _head(scope: Scope, name: str) -> str | None:
    found = next((value for head, value in scope["headers"] if head == name.encode()), None)
    return None if found is None else found.decode("latin-1")[:SHOWN_CHARS]


class Metered:
    """Counts answers by path and status, and knows what is open now."""

    def __init__(self, app: ASGIApp, meter: Meter) -> None:
        self._app = app
        self._meter = meter

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        meter, path = self._meter, scope["path"]
        status: int | None = None
        streaming = False

        async def say(message: Message) -> None:
            nonlocal status, streaming
            if message["type"] == "http.response.start":
                status = message["status"]
                streaming = any(
                    name.lower() == b"content-type" and value.startswith(b"text/event-stream")
                    for name, value in message.get("headers", ())
                )
                meter.streams += streaming
            await send(message)

        meter.requests += 1
        try:
            return await self._app(scope, receive, say)
        except Exception:
            status = status or 500  # what a server makes of an app that breaks
            raise
        finally:
            meter.requests -= 1
            meter.streams -= streaming
            if status is not None:  # else its client had left before an answer began
                meter.answered(path, status)


@dataclass(slots=True)
class Meter:
    """What is open, and who is told what has been answered."""

    answered: Callable[[str, int], None]
    requests: int = 0
    streams: int = 0
