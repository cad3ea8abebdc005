"""By what a probe that shows no token tells a hub from another program at its port. Loads nothing: probes start often.

Each answer at that path has the sign, a refusal too, and so has the one to a connection too many. It says nothing that
the refusals' own words do not.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

PROBED = "/health/live"
"""Probes ask here without a token all day long (`llm-mcp-hub health`)."""
SIGN = "llm-mcp-hub"
SIGNED = "here"


class Signed:
    """Stands before everything that might answer a probe."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] != PROBED:
            return await self._app(scope, receive, send)

        async def say(message: Message) -> None:
            if message["type"] == "http.response.start":
                sign = (SIGN.encode(), SIGNED.encode())
                message = {**message, "headers": [*message.get("headers", ()), sign]}
            await send(message)

        return await self._app(scope, receive, say)
