"""How long, how large and of how many values a request's body may be. Stands before every route, and does not know who
sends it.

It watches what is read, so it holds under any ASGI server. As soon as an answer has begun it watches no time: whoever
waits for an answer is not hurried. A body that nobody reads is the server's to end (`connections.py`).
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

import anyio
import anyio.lowlevel
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from llm_mcp_hub.serving.limits import Refused, nobody
from llm_mcp_hub.serving.shape import VALUES, Shape

QUIET_S = 30.0
WHOLE_S = 120.0
LEFT_BYTES = 64 << 10
"""So much of a body that is not wanted is read and dropped, to keep the connection; for more it is closed."""
GONE: Message = {"type": "http.disconnect"}


@dataclass(frozen=True, slots=True)
class Bounds:
    """How large a body may be, how long without a byte, and how long in all."""

    most_bytes: int
    quiet_s: float = QUIET_S
    whole_s: float = WHOLE_S


class Bodies:
    """Ends requests whose bodies are too large, too slow or no JSON of ours: 413, 408 and 400, and the connection is
    closed."""

    def __init__(self, app: ASGIApp, bounds: Bounds, refused: Refused = nobody) -> None:
        """`refused` counts refusals."""
        self._app = app
        self._bounds = bounds
        self._refused = refused

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        if _ends_twice(scope):
            self._refused("body_form")
            return await _closing(scope, "Give a body's length or send it in chunks.\n", 400)(scope, receive, send)
        length = _length(scope)
        if length is not None and length > self._bounds.most_bytes:
            self._refused("body_size")
            return await _too_large(scope, self._bounds)(scope, receive, send)
        body = _Body(self._bounds, self._refused, scope, receive, send)
        with body.reading:
            return await self._app(scope, body.hear, body.say)


class _Body:
    """One request's body on its way."""

    def __init__(self, bounds: Bounds, refused: Refused, scope: Scope, receive: Receive, send: Send) -> None:
        self._bounds = bounds
        self._refused = refused
        self._scope = scope
        self._receive = receive
        self._send = send
        self._length = _length(scope)
        self._came = 0
        self._shape = Shape()
        self._whole = self._length == 0
        self._answered = False
        self._over = False
        self.reading = anyio.CancelScope()
        """Cancelled with a body that is refused: to whoever reads it this is no error, and it has nobody to tell."""
        self._due = asyncio.get_running_loop().time() + bounds.whole_s

    async def hear(self) -> Message:
        message = await self._in_time()
        if message["type"] != "http.request":
            if not self._whole and not self._answered:  # the SDK would log who hangs up here as an exception
                await self._break_off()
            return message
        self._came += len(message.get("body", b""))
        self._whole = self._whole or not message.get("more_body", False)
        if self._came > self._bounds.most_bytes and not self._answered:
            await self._end("body_size", _too_large(self._scope, self._bounds))
            return GONE
        if not self._shape.takes(message.get("body", b"")) and not self._answered:
            told = f"A request's body is JSON in UTF-8 with at most {VALUES:,} values.\n"
            await self._end("body_form", _closing(self._scope, told, 400))
            return GONE
        return message

    async def say(self, message: Message) -> None:
        if self._over:
            return
        if message["type"] == "http.response.start":
            self._answered = True
            left = None if self._length is None else self._length - self._came
            if not self._whole and (left is None or left > LEFT_BYTES):
                others = [header for header in message.get("headers", ()) if header[0] != b"connection"]
                message = {**message, "headers": [*others, *_close(self._scope)]}
        await self._send(message)

    async def _in_time(self) -> Message:
        while not self._whole and not self._answered and not self._over:
            left = self._due - asyncio.get_running_loop().time()
            try:
                async with asyncio.timeout(max(0.0, min(self._bounds.quiet_s, left))):
                    return await self._receive()
            except TimeoutError:
                if not self._answered:
                    told = "The request's body did not come in time: send it again.\n"
                    await self._end("body_time", _closing(self._scope, told, 408))
        return GONE if self._over else await self._receive()

    async def _end(self, reason: str, answer: Response) -> None:
        self._refused(reason)
        self._over = True
        await answer(self._scope, self._receive, self._send)
        await self._break_off()

    async def _break_off(self) -> None:
        self._over = True
        self.reading.cancel()
        await anyio.lowlevel.checkpoint()


def _too_large(scope: Scope, bounds: Bounds) -> Response:
    return _closing(scope, f"A request may have {bounds.most_bytes:,} bytes.\n", 413)


def _closing(scope: Scope, told: str, status: int) -> Response:
    answer = Response(told, status)
    answer.raw_headers += _close(scope)
    return answer


def _close(scope: Scope) -> list[tuple[bytes, bytes]]:
    """The header that closes a connection, where connections have it."""
    return [(b"connection", b"close")] if scope.get("http_version", "1.1").startswith("1") else []


def _ends_twice(scope: Scope) -> bool:
    """Whether its end is told in two ways (RFC 9112, section 6.1): what stands before the hub may have gone by the
    other one, and then what is a body there is a request here."""
    names = {name for name, _ in scope["headers"]}
    return {b"transfer-encoding", b"content-length"} <= names


def _length(scope: Scope) -> int | None:
    """How long the body says it is; None where its end is open."""
    headers: dict[bytes, bytes] = dict(scope["headers"])
    if b"transfer-encoding" in headers:
        return None
    given = headers.get(b"content-length", b"0")
    return int(given) if given.isdigit() and len(given) < 20 else None
