"""G8's drill: two replicas behind nginx, of which one is killed every half minute while clients ask and ask.

The official client in both eras, both providers, calls that wait and tickets, conversations that go on. Promised is:
no acknowledged ask is unknown afterwards, none is put to a provider twice, the places of both replicas together are
never more than there are, and a person is told once. HUB_DRILL_ROUNDS is as in the other drills: 3 minutes with 2,
half an hour with 20; `-s` shows the counts.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import random
import time
from collections import Counter
from collections.abc import AsyncGenerator, Generator
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from mcp.client import Client

from tests.guarantees.drill import PROVIDERS, ROUNDS, Provider
from tests.guarantees.durable import SEED, Question, Voices, held_in, until
from tests.guarantees.replicas import Nginx, Receiver, Replica
from tests.harness import DEADLINE_S, Era, World, make_world
from tests.upstreams.redis import RedisServer

EVERY_S = 30.0
KILLS = 3 * ROUNDS
PLACES = 2
DIED = {"internal", "busy"}
"""What an ask may end with here beside its answer: its replica died, or its conversation's last ask did just now."""
AWAY = "store_unavailable"
"""What a busy machine may say now and then: Redis has a quarter of a second to answer."""

pytestmark = [pytest.mark.drill, pytest.mark.timeout(300 + 120 * ROUNDS)]


class Kind(NamedTuple):
    """What one client does all the time."""

    era: Era
    provider: Provider
    ticket: bool


KINDS = [
    *(Kind(era, "gemini", ticket) for era in ("auto", "legacy") for ticket in (False, True)),
    Kind("auto", "claude", True),
    Kind("legacy", "claude", False),
]


@dataclass
class Asked:
    """One ask as its client saw it."""

    kind: Kind
    question: Question
    text: str
    ask_id: str | None = None
    """Known from its ticket, its result, or its progress: it was acknowledged."""
    end: str | None = None
    """`completed`, or the code it failed with; None where the call was lost."""


@dataclass
class Drill:
    world: World
    voices: Voices
    nginx: Nginx
    replicas: list[Replica]
    receiver: Receiver
    asked: list[Asked] = field(default_factory=list[Asked])
    wrong: list[str] = field(default_factory=list[str])
    """What a call was told that cannot be: a client of the drill loses its connections, and so hides what it raises."""
    over: bool = False
    chance: random.Random = field(default_factory=lambda: random.Random(SEED))

    # -- one client

    async def client(self, kind: Kind) -> None:
        """Ask until the drill is over. Whoever loses its connection comes back with a new one."""
        while not self.over:
            with contextlib.suppress(Exception):  # a connection that a kill has broken, in any of its forms
                async with self.connected(kind.era) as client:
                    conversation: str | None = None
                    while not self.over:
                        conversation = await self.ask(client, kind, conversation)

    @asynccontextmanager
    async def connected(self, era: Era) -> AsyncGenerator[Client]:
        async with Client(f"http://127.0.0.1:{self.nginx.port}/mcp", mode=era) as client:
            yield client

    async def ask(self, client: Client, kind: Kind, conversation: str | None) -> str | None:
        """One ask to its end. Returns the conversation, if it can go on. Raises whatever a lost connection raises."""
        pieces = [f"{number} " for number in range(self.chance.choice([2, 3, 14]))]
        question = self.voices.tells(kind.provider, pieces, 0.4)
        asked = Asked(kind, question, "".join(pieces))
        self.asked.append(asked)

        async def progress(progress: float, total: float | None, message: str | None) -> None:
            asked.ask_id = (message or "").rpartition(" · ")[2] or None

        given: dict[str, Any] = {"prompt": question.prompt, **({"wait_s": 0} if kind.ticket else {"wait_s": 3600})}
        if conversation is not None:
            given["conversation_id"] = conversation
        async with asyncio.timeout(2 * DEADLINE_S):
            result = await client.call_tool(f"ask_{kind.provider}", given, progress_callback=progress)
            conversation = self.note(asked, result)
            while asked.end is None:
                result = await client.call_tool("ask_result", {"ask_id": asked.ask_id, "wait_s": 20})
                conversation = self.note(asked, result)
        return conversation if self.chance.random() < 0.7 else None

    def note(self, asked: Asked, result: Any) -> str | None:
        """What a result says of an ask. Returns its conversation, where it has been answered."""
        meta: dict[str, Any] = result.meta or {}
        error = meta.get("llm-mcp-hub/error")
        if error is None and "llm-mcp-hub/answer" not in meta:
            self.wrong.append(f"{asked.kind}: {result}")
        if error is not None:
            asked.ask_id = error["ask_id"] or asked.ask_id
            if asked.ask_id is None or error["code"] != AWAY:  # else it was not told how the ask stands
                asked.end = error["code"]
            return None
        answer = meta["llm-mcp-hub/answer"]
        asked.ask_id = answer["ask_id"]
        if answer["status"] != "completed":
            return None
        if answer["text"] != asked.text:
            self.wrong.append(f"{asked.ask_id}: {answer['text'][:80]!r}, not {asked.text[:80]!r}")
        asked.end = "completed"
        return answer["conversation_id"]

    # -- the drill

    async def run(self) -> None:
        clients = [asyncio.create_task(self.client(kind)) for kind in KINDS]
        victims = itertools.cycle(self.replicas)
        began = time.monotonic()
        for number in range(1, KILLS + 1):
            await asyncio.sleep(began + number * EVERY_S - time.monotonic())  # the drill's own beat
            victim = next(victims)
            await asyncio.to_thread(victim.kill)
            await asyncio.to_thread(victim.start)
        self.over = True
        await asyncio.wait_for(asyncio.gather(*clients), 3 * DEADLINE_S)

    async def looked_up(self) -> list[str]:
        """How each acknowledged ask stands now, through nginx: its status, or `unknown`."""
        stands: list[str] = []
        async with self.connected("auto") as client:
            for asked in self.asked:
                if asked.ask_id is None:
                    continue
                result: Any = None
                error: Any = {"code": AWAY}
                while error is not None and error["code"] == AWAY:
                    async with asyncio.timeout(2 * DEADLINE_S):
                        given = {"ask_id": asked.ask_id, "wait_s": DEADLINE_S}
                        result = await client.call_tool("ask_result", given)
                    error = result.meta.get("llm-mcp-hub/error")
                if error is None:
                    answer = result.meta["llm-mcp-hub/answer"]
                    stands.append("completed" if answer["text"] == asked.text else f"{answer['status']}, another text")
                else:
                    stands.append("unknown" if error["code"] == "not_found" else error["code"])
        return stands


@pytest.fixture
def drill(tmp_path: Path) -> Generator[Drill]:
    with ExitStack() as stack:
        world = stack.enter_context(make_world(tmp_path / "world"))
        redis = stack.enter_context(RedisServer(tmp_path / "redis"))
        receiver = stack.enter_context(Receiver())
        soon = datetime.now(UTC) - timedelta(days=363)
        world.changes |= {
            "REDIS_URL": redis.url,
            "HUB_CLAUDE_CONCURRENCY": str(PLACES),
            "HUB_GEMINI_CONCURRENCY": str(PLACES),
            "HUB_ALERT_WEBHOOK_URL": receiver.url,
            "LOG_LEVEL": "DEBUG",
            "CLAUDE_TOKEN_ISSUED_AT": soon.isoformat(),  # so there is something to tell a person: it ends soon
        }
        voices = Voices(world)
        replicas = [Replica(world, name).start() for name in ("a", "b")]
        for replica in replicas:
            stack.callback(replica.stop)
        nginx = stack.enter_context(Nginx(tmp_path / "nginx", replicas))
        until(lambda: bool(receiver.alerts), "a person is told")
        yield Drill(world, voices, nginx, replicas, receiver)


def test_replicas_that_are_killed_again_and_again_lose_no_ask(drill: Drill) -> None:
    """As the module says."""
    began, from_day = time.monotonic(), datetime.now(UTC).date()
    try:
        asyncio.run(drill.run())
        stands = asyncio.run(drill.looked_up())
    finally:
        took = time.monotonic() - began
        known = [asked for asked in drill.asked if asked.ask_id is not None]
        kinds = Counter("/".join((*asked.kind[:2], "ticket" if asked.kind.ticket else "waits")) for asked in known)
        print(f"\nG8  {KILLS} kills in {took:.0f} s, seed {SEED}: {len(drill.asked)} asks, {len(known)} acknowledged")
        print(f"G8  by client: {dict(sorted(kinds.items()))}")
    print(f"G8  acknowledged asks afterwards: {dict(Counter(stands))}")
    away = sum(len(log.found("store away")) for replica in drill.replicas for log in replica.logs)
    print(f"G8  beats that found the store away: {away}")
    for asked, stand in zip(known, stands, strict=True):
        if stand not in {"completed", *DIED}:
            print(f"G8  {stand}: {asked.ask_id} of {asked.kind}, told {asked.end}")
    print(f"G8  put to a provider: {sum(len(asked.question.requests) for asked in drill.asked)}")
    twice = [asked.question.prompt for asked in drill.asked if len(asked.question.requests) > 1]
    print(f"G8  put twice: {len(twice)}; most at once, of {PLACES} places: {drill.voices.most_open}")
    print(f"G8  alerts sent: {len(drill.receiver.alerts)}")

    assert drill.wrong == []
    assert set(stands) <= {"completed", *DIED}
    assert {asked.end for asked in known} <= {"completed", None, *DIED}
    assert all(kind in {asked.kind for asked in known if asked.end == "completed"} for kind in KINDS)
    assert twice == []
    assert all(drill.voices.most_open[provider] <= PLACES for provider in PROVIDERS)
    days = (datetime.now(UTC).date() - from_day).days + 1
    assert {(alert["provider"], alert["status"]) for alert in drill.receiver.alerts} == {("claude", "warning")}
    assert 1 <= len(drill.receiver.alerts) <= days
    until(lambda: held_in(drill.world) == [], "every lease is free again")
    assert [replica.stop() for replica in drill.replicas] == [0, 0]
    drill.world.wait_until_no_child()
    assert drill.world.surprises == []
