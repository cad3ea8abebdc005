"""A provider that plays a script. It implements the seam like any other; no process, no network.

It checks its caller: an ask that nobody scripted, and one that was left open, are failures of the test.
"""

from __future__ import annotations

import asyncio
import re
from collections import deque
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Literal

from llm_mcp_hub.conversation import Ask, Billing, Usage
from llm_mcp_hub.credentials.known import Held
from llm_mcp_hub.credentials.ledger import Ledger
from llm_mcp_hub.credentials.monitor import Monitor
from llm_mcp_hub.credentials.status import Credential
from llm_mcp_hub.errors import AuthExpired, AuthMissing, HubError, Misconfigured
from llm_mcp_hub.providers.base import Event, Finished, Traits
from llm_mcp_hub.store.base import Store


@dataclass(frozen=True)
class Pause:
    """An upstream that takes its time: a case of a deadline, never a wait for something."""

    seconds: float


Step = Event | BaseException | asyncio.Event | Pause
"""An event is yielded, an exception raised, an `asyncio.Event` waited for."""


SUBSCRIPTION = Billing(source="subscription", evidence="fuse")


def done(text: str = "Hello.", model: str = "one-1") -> Finished:
    return Finished(text, model, "served", "end_turn", Usage(input_tokens=1, output_tokens=2), SUBSCRIPTION)


class ScriptedProvider:
    """See the module. Scripts are played in the order of the asks."""

    def __init__(self, name: str = "one", *scripts: Sequence[Step]) -> None:
        self.traits = Traits(
            name=name,
            title=name.title(),
            spends="nothing",
            default_model=f"{name}-1",
            aliases=("small",),
            model_pattern=re.compile(rf"{name}-[0-9]+"),
            model_hint=f"{name}-1",
        )
        self.asked: list[str] = []
        """The ids of the asks that reached it, in order."""
        self.open: list[str] = []
        """The ids of those that it is answering right now."""
        self.told: list[str] = []
        """What it was told besides: `warm`, `close`, `kill`."""
        self.fails_to_close = False
        self.stops_warming: HubError | None = None
        self._scripts = deque(scripts)
        self._changed = asyncio.Event()

    async def ask(self, ask: Ask) -> AsyncGenerator[Event]:
        self.asked.append(ask.ask_id)
        self.open.append(ask.ask_id)
        self._changed.set()
        try:
            for step in self._scripts.popleft():
                if isinstance(step, asyncio.Event):
                    await step.wait()
                elif isinstance(step, Pause):
                    await asyncio.sleep(step.seconds)
                elif isinstance(step, BaseException):
                    raise step
                else:
                    yield step
        finally:
            self.open.remove(ask.ask_id)
            self._changed.set()

    async def warm(self) -> HubError | None:
        self._note("warm")
        return self.stops_warming

    async def close(self) -> None:
        self._note("close")
        if self.fails_to_close:
            raise OSError("made up")

    def kill(self) -> None:
        self._note("kill")

    def _note(self, what: str) -> None:
        self.told.append(what)
        self._changed.set()

    async def until_asked(self, count: int) -> None:
        """Until so many asks have reached it."""
        while len(self.asked) < count:
            self._changed.clear()
            await self._changed.wait()

    async def until_told(self, what: str) -> None:
        """Until it was told this."""
        while what not in self.told:
            self._changed.clear()
            await self._changed.wait()


Login = Literal["valid", "expired", "missing", "misconfigured"]


class ScriptedReader:
    """A reader that holds one login, in the state that a test wants."""

    newest_first = False

    def __init__(self, state: Login = "valid") -> None:
        self.state = state
        self.mark = "made-up"

    def held(self) -> Sequence[Held]:
        problems: dict[str, HubError] = {
            "expired": AuthExpired("made up", action="Make one."),
            "missing": AuthMissing("made up", action="Make one."),
            "misconfigured": Misconfigured("made up", action="Mend it."),
        }
        credential = None if self.state == "missing" else Credential(kind="login", source="file")
        problem = problems.get(self.state)
        return [
            Held("The login", credential, "made up", "Make one.", mark="" if problem else self.mark, problem=problem)
        ]


def login(store: Store, reader: ScriptedReader | None = None, name: str = "one") -> Monitor:
    """What watches over a scripted provider's login."""
    return Monitor(reader or ScriptedReader(), Ledger(store, name), alert=timedelta(days=3))
