"""A Gemini CLI's sessions that wait: made ahead, or kept for their conversations' next turns. Knows no process.

A session that is kept has seen exactly that conversation, and goes on in no other. What is let go of is forgotten: its
file holds what was said.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass

from llm_mcp_hub.conversation import Ask
from llm_mcp_hub.providers.gemini_home import Home

AHEAD = range(2, 33)
"""How many are made ahead: as many as asks ran at once, within these bounds."""
AHEAD_S = 15 * 60.0
KEPT = 64
"""How many are kept for their conversations' next turns: each is a part of the one process."""
KEPT_S = 30 * 60.0
KEPT_TURNS = 3
"""How many turns a session answers before the next begins with the transcript. See `gemini_child.SESSION_TURNS`."""


@dataclass(slots=True)
class Session:
    """A session of the CLI, and what it has seen."""

    id: str
    model: str
    since: float
    turns: int = 0
    last: str | None = None
    """The ask that it answered last; None for one that has seen nothing."""


class Sessions:
    """Those of one process."""

    def __init__(self, home: Home) -> None:
        self._home = home
        self._ahead: list[Session] = []
        self._kept: dict[str, Session] = {}
        self._aging: asyncio.TimerHandle | None = None
        self._most_at_once = AHEAD.start

    @property
    def few(self) -> bool:
        """Whether more are to be made ahead."""
        return len(self._ahead) < self._most_at_once

    def add(self, session: Session) -> None:
        """One that was made ahead."""
        self._ahead.append(session)

    def take(self, ask: Ask, at_once: int) -> Session | None:
        """The session that has seen this conversation and nothing else, or one made ahead; None where neither is.

        `at_once`: how many asks run now.
        """
        self._most_at_once = min(max(self._most_at_once, at_once), AHEAD[-1])
        kept = self._kept.pop(ask.conversation_id, None)
        if kept is not None:
            fresh = time.monotonic() - kept.since < KEPT_S
            if ask.history and kept.last == ask.history[-1].ask_id and kept.turns < KEPT_TURNS and fresh:
                return kept
            self.forget(kept)
        while self._ahead:
            session = self._ahead.pop(0)
            if time.monotonic() - session.since < AHEAD_S:
                return session
            self.forget(session)
        return None

    def keep(self, session: Session, ask: Ask) -> None:
        """Keep a session for the next turn of the conversation whose ask it has just answered."""
        session.last, session.since = ask.ask_id, time.monotonic()
        session.turns += 1
        if not ask.conversation_id:
            self.forget(session)
            return
        self._kept[ask.conversation_id] = session
        while len(self._kept) > KEPT:
            self.forget(self._kept.pop(next(iter(self._kept))))
        if self._aging is None:
            self._aging = asyncio.get_running_loop().call_later(KEPT_S, self._let_old_go)

    def forget(self, session: Session) -> None:
        """Nobody goes on in it: what the CLI wrote about it is removed."""
        self._home.forget(session.id)

    def close(self) -> None:
        """Forget none by itself any more: the home goes as a whole."""
        if self._aging is not None:
            self._aging.cancel()

    def _let_old_go(self) -> None:
        """Forget those whose time is over, also where nobody asks any more: they hold what was said."""
        self._aging = None
        for conversation, session in list(self._kept.items()):  # the oldest first
            left = session.since + KEPT_S - time.monotonic()
            if left > 0:
                self._aging = asyncio.get_running_loop().call_later(left, self._let_old_go)
                return
            self.forget(self._kept.pop(conversation))
