"""How many sessions of the older era one client may hold: the SDK bounds them all together, first come, first served.

It reads heads alone: a session begins with an answer that names it and ends with an answer that says so, or with the
SDK's own time for one that nobody uses. The era 2026-07-28 has none.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from llm_mcp_hub.serving.auth import CALLER, Caller
from llm_mcp_hub.serving.limits import Refused, nobody, too_many
from llm_mcp_hub.serving.wire import PATH, SESSION, VERSION

WITHOUT_SESSIONS = b"2026-07-28"
"""From this version on; versions are days."""
IDLE_S = 1_800.0
"""The SDK's own."""
RETRY_S = 60


@dataclass(slots=True)
class _Session:
    principal: str
    open: int = 0
    used_at: float = 0.0


class Sessions:
    """Who holds which, as far as can be seen from outside."""

    def __init__(self, *, idle_s: float = IDLE_S, clock: Callable[[], float] = time.monotonic) -> None:
        self._idle_s = idle_s
        self._clock = clock
        self._held: dict[str, _Session] = {}

    def of(self, principal: str) -> int:
        """How many a client holds."""
        idle_since = self._clock() - self._idle_s
        for name in [name for name, one in self._held.items() if not one.open and one.used_at < idle_since]:
            del self._held[name]
        return sum(one.principal == principal for one in self._held.values())

    def began(self, name: str, principal: str) -> None:
        self._held.setdefault(name, _Session(principal, used_at=self._clock()))

    def ended(self, name: str, principal: str) -> None:
        if self._own(name, principal) is not None:
            del self._held[name]

    def uses(self, name: str, principal: str) -> None:
        """A request of it has begun; what is another's, or not known, is not there."""
        if (one := self._own(name, principal)) is not None:
            one.open += 1

    def used(self, name: str, principal: str) -> None:
        """One has ended."""
        if (one := self._own(name, principal)) is not None:
            one.open -= 1
            one.used_at = self._clock()

    def _own(self, name: str, principal: str) -> _Session | None:
        one = self._held.get(name)
        return one if one is not None and one.principal == principal else None


class SessionShare:
    """Lets a client open sessions up to its share. Stands behind the door, which has told whose requests they are."""

    def __init__(self, app: ASGIApp, share: int, refused: Refused = nobody, sessions: Sessions | None = None) -> None:
        """`share`: how many sessions one client may hold; `refused` counts refusals."""
        self._app = app
        self._share = share
        self._refused = refused
        self._sessions = sessions or Sessions()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        caller: Caller | None = scope.get(CALLER)
        if caller is None or caller.client is None or scope["path"] != PATH:
            return await self._app(scope, receive, send)
        headers: Mapping[bytes, bytes] = dict(reversed(scope["headers"]))  # the first of two counts, as for the SDK
        given = headers.get(SESSION, b"").decode("latin-1")
        opens = scope["method"] == "POST" and not given and headers.get(VERSION, b"") < WITHOUT_SESSIONS
        if opens and self._sessions.of(caller.principal) >= self._share:
            self._refused("sessions")
            told = f"This client holds {self._share} sessions: end one (DELETE), or try again in {RETRY_S} s.\n"
            return await too_many(told, RETRY_S)(scope, receive, send)

        async def say(message: Message) -> None:
            if message["type"] == "http.response.start":
                self._look(scope["method"], given, caller.principal, message)
            await send(message)

        self._sessions.uses(given, caller.principal)
        try:
            return await self._app(scope, receive, say)
        finally:
            self._sessions.used(given, caller.principal)

    def _look(self, method: str, given: str, principal: str, answer: Message) -> None:
        """What an answer tells of a session."""
        if given and (answer["status"] == 404 or (method == "DELETE" and answer["status"] == 200)):
            self._sessions.ended(given, principal)
        elif not given and answer["status"] == 200:
            named = dict(answer["headers"]).get(SESSION, b"").decode("latin-1")
            if named:
                self._sessions.began(named, principal)
