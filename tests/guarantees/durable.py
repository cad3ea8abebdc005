"""What the drills of G4 have in common: answers that come when a test lets them, and how asks stand in the store.

It knows the stand-ins, the tools' wire and the seam of the store; nothing of how the hub keeps what it promises.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import threading
import time
from collections.abc import Callable, Generator, Iterable
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from mcp_types import CallToolResult

from llm_mcp_hub.store.base import PLACES, RUNNING, Store
from llm_mcp_hub.store.redis import RedisStore
from llm_mcp_hub.store.sqlite import SqliteStore
from tests.guarantees.drill import FIRST, HELLO, KEPT_WARM, PROVIDERS, Hub, Provider, children_of
from tests.harness import DEADLINE_S, World, answer_of, error_of
from tests.upstreams import anthropic, google
from tests.upstreams.loopback import Received
from tests.upstreams.redis import RedisServer

StoreKind = Literal["sqlite", "redis"]
STORES: tuple[StoreKind, ...] = ("sqlite", "redis")
SEED = int(os.environ.get("HUB_DRILL_SEED") or time.time_ns() % 1_000_000)
"""Of every chance in these drills; each says it. Read here because the tests' own environment is scrubbed."""
REST = ", and all that followed them."
WHOLE = FIRST + REST


def until(happened: Callable[[], bool], what: str) -> None:
    """Look again and again, until it is so. Raises AssertionError when that takes too long."""
    deadline = time.monotonic() + DEADLINE_S
    while not happened():
        assert time.monotonic() < deadline, f"not within {DEADLINE_S:.0f} s: {what}"
        time.sleep(0.02)


# What is answered -----------------------------------------------------------------------------------------------------


@dataclass(eq=False)
class Question:
    """A prompt like no other, and what becomes of it at the stand-in."""

    provider: Provider
    prompt: str
    go_on: threading.Event = field(default_factory=threading.Event)
    """Held answers stop after their first words until this is set."""
    requests: list[Received] = field(default_factory=list[Received])
    """Each time that the provider was asked this."""

    @property
    def request(self) -> Received:
        """The one request that it made."""
        (request,) = self.requests
        return request


class Voices:
    """What both stand-ins of a world say: to each question its own answer, to everything else HELLO."""

    def __init__(self, world: World) -> None:
        self.world = world
        self._answers: dict[str, tuple[Question, Any]] = {}
        self._numbers = itertools.count(1)
        self.most_open = dict.fromkeys(PROVIDERS, 0)
        """The most requests that each provider had open at once."""
        self.order: list[str] = []
        """The questions in the order in which they came."""
        world.claude.default = lambda received: self._said("claude", received, anthropic.last_user_texts(received))
        world.gemini.default = lambda received: self._said("gemini", received, google.prompt_texts(received))

    def holds(self, provider: Provider, go_on: threading.Event | None = None, *, after: int = 1) -> Question:
        """FIRST comes at once, REST when the test lets it; with `after=0` nothing comes before that."""
        question = self._question(provider)
        if go_on is not None:
            question.go_on = go_on
        words: dict[str, Any] = {"chunks": [FIRST, REST], "gate": question.go_on, "gate_after": after}
        self._answers[question.prompt] = (
            question,
            anthropic.Answer(**words) if provider == "claude" else google.Answer(**words),
        )
        return question

    def hangs(self, provider: Provider) -> Question:
        """FIRST, and never more."""
        question = self._question(provider)
        self._answers[question.prompt] = (
            question,
            anthropic.Hang(FIRST) if provider == "claude" else google.Hang(FIRST),
        )
        return question

    def fails(self, provider: Provider) -> Question:
        """An error of the kind that no retry mends; nothing but that."""
        question = self._question(provider)
        self._answers[question.prompt] = (
            question,
            anthropic.Error.org_not_allowed() if provider == "claude" else google.Error.permission_denied(),
        )
        return question

    def tells(self, provider: Provider, pieces: Iterable[str], pause_s: float) -> Question:
        """These pieces, with a pause before each but the first."""
        question = self._question(provider)
        words: dict[str, Any] = {"chunks": list(pieces), "chunk_delay_s": pause_s}
        self._answers[question.prompt] = (
            question,
            anthropic.Answer(**words) if provider == "claude" else google.Answer(**words),
        )
        return question

    def under_way(self, question: Question) -> None:
        """Block until the provider has been asked it."""
        self.world.upstream(question.provider).wait_until(lambda: bool(question.requests), timeout=DEADLINE_S)

    def _question(self, provider: Provider) -> Question:
        return Question(provider, f"question {next(self._numbers)} of the drill")

    def _said(self, provider: Provider, received: Received, texts: list[str]) -> Any:
        asked = self.world.claude.received if provider == "claude" else self.world.gemini.generations
        still_open = sum(request.ended == "open" for request in asked)
        self.most_open[provider] = max(self.most_open[provider], still_open)
        # The last that is one of ours: the history of a conversation may hold others.
        found = next((self._answers[text] for text in reversed(texts) if text in self._answers), None)
        if found is None:
            return anthropic.Answer(HELLO["claude"]) if provider == "claude" else google.Answer(HELLO["gemini"])
        question, reply = found
        question.requests.append(received)
        self.order.append(question.prompt)
        return reply


def ticket(hub: Hub, question: Question, *, wait_s: float = 0, **more: Any) -> str:
    """Ask for a ticket. Returns the ask."""
    told = answer_of(hub.ask(question.provider, prompt=question.prompt, wait_s=wait_s, **more).result())
    assert (told["status"], told["text"]) == ("working", "")
    return told["ask_id"]


# How asks stand -------------------------------------------------------------------------------------------------------


def fetched(hub: Hub, **arguments: Any) -> CallToolResult:
    """What `ask_result` tells, asked again while it says that the store is away: a busy machine's Redis is late."""
    until_s = time.monotonic() + DEADLINE_S
    while True:
        result = hub.call("ask_result", arguments).result()
        if not result.is_error or error_of(result)["code"] != "store_unavailable" or time.monotonic() > until_s:
            return result


def listed(hub: Hub) -> list[dict[str, Any]]:
    """The last asks as `ask_result` without an id tells them, the newest first."""
    result = fetched(hub)
    assert not result.is_error, result.content
    assert result.meta is not None
    return result.meta["llm-mcp-hub/asks"]


def id_of(hub: Hub, question: Question) -> str:
    """The ask of a question, found in the list by who has nothing but the prompt."""
    found = [ask["ask_id"] for ask in listed(hub) if ask["title"] == question.prompt]
    assert len(found) == 1, f"{question.prompt!r} stands {len(found)} times in the list"
    return found[0]


def status_of(hub: Hub, ask_id: str) -> str:
    """How an ask stands in the list; `unknown` where it is not there."""
    return next((ask["status"] for ask in listed(hub) if ask["ask_id"] == ask_id), "unknown")


def store_of(world: World) -> Store:
    """One more store, as a hub of this world has it."""
    url = world.changes.get("REDIS_URL")
    return SqliteStore(world.state) if url is None else RedisStore(url, timeout_s=DEADLINE_S)


def held_in(world: World) -> list[str]:
    """What hubs hold on the store: asks that run, and places."""

    async def look() -> list[str]:
        store = store_of(world)
        try:
            async with asyncio.timeout(DEADLINE_S):
                leases = [RUNNING, *(PLACES.format(provider=provider) for provider in PROVIDERS)]
                return [f"{lease} by {holder}" for lease in leases for holder in await store.holders(lease)]
        finally:
            await store.close()

    return asyncio.run(look())


def wait_until_nothing_is_left(world: World, hubs: int) -> None:
    """Block until nothing is open upstream, no lease is held, and no child is there but what `hubs` hubs keep warm."""
    for provider in PROVIDERS:
        world.upstream(provider).wait_until_quiet(timeout=DEADLINE_S)
    until(lambda: not held_in(world), "every lease is free again")
    for provider in PROVIDERS:
        until(
            lambda provider=provider: len(children_of(world, provider)) <= hubs * KEPT_WARM[provider],
            f"only what is kept warm of {provider} is left",
        )


@contextmanager
def stored(world: World, kind: StoreKind, folder: Path) -> Generator[World]:
    """The world, whose hubs share one store or the other."""
    if kind == "sqlite":
        yield world
        return
    with RedisServer(folder / "redis") as server:
        world.changes["REDIS_URL"] = server.url
        yield world
