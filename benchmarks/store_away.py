"""What a Redis in trouble adds to an ask: the hub and the store alone, with a provider that answers at once.

A real redis-server that writes each change to its disk is frozen, killed, filled up, restarted, emptied and filled with
nonsense under load. Four at a time ask; each row is that load's own.

    python -m benchmarks.store_away [--quick]
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncGenerator

import structlog

from benchmarks.bench import Bench, alone
from benchmarks.result import Table
from llm_mcp_hub.conversation import Ask
from llm_mcp_hub.hub import Deadlines, Entry, Hub
from llm_mcp_hub.providers.base import Event
from llm_mcp_hub.store.redis import RedisStore
from tests.guarantees.test_g4_store_away import FAULTS
from tests.unit.scripted import ScriptedProvider, done, login
from tests.upstreams.redis import RedisServer

ABOUT = "What a Redis in trouble adds to an ask."
AT_ONCE = 4
SECONDS = 2.0
UNDER_WAY_S = 0.4
"""So long a load runs before the fault begins or ends under it."""
PAUSE_S = 1.0


class AtOnce(ScriptedProvider):
    """Says the same to everybody, however often."""

    async def ask(self, ask: Ask) -> AsyncGenerator[Event]:
        yield done()


async def load(hub: Hub, seconds: float) -> list[float]:
    """Ask so long, a few at a time: how long each took (milliseconds). Every one must succeed."""
    taken: list[float] = []
    until = time.perf_counter() + seconds

    async def one_after_another() -> None:
        while (began := time.perf_counter()) < until:
            await hub.ask(hub.new_ask("one", "hello"))
            taken.append((time.perf_counter() - began) * 1e3)

    await asyncio.gather(*(one_after_another() for _ in range(AT_ONCE)))
    return taken


async def measure(bench: Bench) -> list[Table]:
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    table = Table("redis", f"An ask of {AT_ONCE} at a time while Redis is in trouble; no provider", "ms", base="usual")
    deadlines = Deadlines(whole=60, first_text=60, idle=60)
    seconds = max(bench.seconds(SECONDS), 2 * UNDER_WAY_S)
    with RedisServer(bench.folder / "redis", appendonly="yes", appendfsync="always") as redis:
        store = RedisStore(redis.url)
        entry = Entry(AtOnce("one"), login(store), 32)
        async with Hub({"one": entry}, store=store, deadlines=deadlines, queue_limit=64) as hub:
            await load(hub, seconds)
            usual: list[float] = []
            for fault in FAULTS:
                usual += await load(hub, seconds / 2)
                struck = asyncio.create_task(load(hub, seconds))
                await asyncio.sleep(UNDER_WAY_S)
                strike = fault(redis)
                await asyncio.to_thread(strike.__enter__)
                at_the_blow, meanwhile = await struck, await load(hub, seconds)
                returning = asyncio.create_task(load(hub, seconds))
                await asyncio.sleep(UNDER_WAY_S)
                await asyncio.to_thread(strike.__exit__, None, None, None)
                name = fault.__name__
                table.add(f"{name}/struck", f"{name}: as it struck", at_the_blow)
                table.add(f"{name}/meanwhile", f"{name}: meanwhile", meanwhile)
                table.add(f"{name}/ended", f"{name}: as it ended", await returning)
                await asyncio.sleep(PAUSE_S)
            table.add("usual", "as usual, before each of them", usual)
    return [table]


if __name__ == "__main__":
    alone(ABOUT, measure)
