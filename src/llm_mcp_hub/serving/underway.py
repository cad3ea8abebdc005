"""The requests that are being served: counted, and ended where they would not end by themselves. Knows no MCP.

A stream stays open as long as its client likes. It ends with the right to it (a client that was revoked) and with the
hub. Stands behind the door, before every route.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any

import anyio
import structlog
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from llm_mcp_hub.errors import Misconfigured
from llm_mcp_hub.serving.auth import CALLER, Caller, Clients, still
from llm_mcp_hub.serving.door import unknown

LOOK_S = 1.0
"""How soon a client that was revoked is noticed where it only listens."""
LAST_WORD_S = 1.0
"""How long the end of a stream that is cut may take: nobody may be reading it."""
UNDERWAY = "llm_mcp_hub.underway"
"""Where a request's scope says how it is."""
log = structlog.stdlib.get_logger("llm_mcp_hub.underway")


@dataclass(slots=True, eq=False)
class Request:
    """One request, as long as it is served."""

    caller: Caller
    owed: bool
    """Whether an answer is due, as it is not on a stream that only listens (a GET of the older era)."""
    sent_away: bool = False
    """Whether it was cut because its client may not be here any more."""
    cut: anyio.CancelScope = field(default_factory=anyio.CancelScope)


class Underway:
    """All of them."""

    def __init__(self) -> None:
        self._requests: set[Request] = set()
        self.closing = False
        """Whether clients are told to open no further request on their connection."""

    @property
    def owed(self) -> int:
        """How many answers are due."""
        return sum(request.owed for request in self._requests)

    def cut(self) -> None:
        """End them all."""
        for request in self._requests:
            request.cut.cancel()

    def send_away(self, clients: Clients) -> None:
        """Cut whatever belongs to somebody who would not come in now."""
        if not self._requests:
            return
        try:
            book = clients.current()
        except Misconfigured:  # nobody would
            gone = set(self._requests)
        else:
            gone = {request for request in self._requests if not still(book, request.caller)}
        for request in gone:
            if not request.sent_away:
                log.info("a client's stream is ended: it may not be here any more", client=request.caller.client)
            request.sent_away = True
            request.cut.cancel()

    async def watch(self, clients: Clients) -> None:
        """Send away, again and again, until cancelled."""
        while True:
            await asyncio.sleep(LOOK_S)
            self.send_away(clients)

    async def serve(self, app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        begun = complete = False

        async def say(message: Message) -> None:
            nonlocal begun, complete
            if message["type"] == "http.response.start":
                begun = True
                if self.closing:
                    others = [header for header in message["headers"] if header[0] != b"connection"]
                    message = {**message, "headers": [*others, (b"connection", b"close")]}
            await send(message)
            complete = complete or (message["type"] == "http.response.body" and not message.get("more_body", False))

        request = Request(scope[CALLER], owed=scope["method"] != "GET")
        scope[UNDERWAY] = request
        self._requests.add(request)
        try:
            with request.cut:
                await app(scope, receive, say)
        finally:
            self._requests.discard(request)
        if request.cut.cancelled_caught and not complete:
            with anyio.move_on_after(LAST_WORD_S):
                if begun:
                    await send({"type": "http.response.body", "body": b"", "more_body": False})
                else:
                    answer = unknown() if request.sent_away else Response("The hub is being stopped.\n", 503)
                    answer.headers["Connection"] = "close"
                    await answer(scope, receive, send)


class Counted:
    """The middleware."""

    def __init__(self, app: ASGIApp, underway: Underway) -> None:
        self._app = app
        self._underway = underway

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        return await self._underway.serve(self._app, scope, receive, send)


def was_sent_away(request: Any) -> bool:
    """Whether a request, as the SDK hands it on, was cut because its client may not be here any more."""
    known = getattr(request, "scope", {}).get(UNDERWAY)
    return isinstance(known, Request) and known.sent_away
