"""What a Redis in trouble adds to an ask: the hub and the store alone, with a provider that answers at once. One run.

A real redis-server that writes each change to its disk is frozen, killed, filled up, restarted, emptied and filled with
nonsense under load. Four at a time ask; each line is that load's own.

    make bench          or: python benchmarks/store_away.py [--seconds N]
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import platform
import sys
import tempfile
import time
from collections.abc import AsyncGenerator, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import structlog  # noqa: E402 - after the path is set

from llm_mcp_hub.conversation import Ask  # noqa: E402
from llm_mcp_hub.hub import Deadlines, Entry, Hub  # noqa: E402
from llm_mcp_hub.providers.base import Event  # noqa: E402
from llm_mcp_hub.store.redis import RedisStore  # noqa: E402
from tests.guarantees.test_g4_store_away import FAULTS, quantiles  # noqa: E402
from tests.unit.scripted import ScriptedProvider, done, login  # noqa: E402
from tests.upstreams.redis import RedisServer  # noqa: E402

AT_ONCE = 4
UNDER_WAY_S = 0.5
"""So long a load runs before the fault begins or ends under it."""
PAUSE_S = 1.0


class AtOnce(ScriptedProvider):
    """Says the same to everybody, however often."""

    async def ask(self, ask: Ask) -> AsyncGenerator[Event]:
        yield done()


async def load(hub: Hub, seconds: float) -> list[float]:
    """Ask so long, a few at a time: how long each took (seconds). Every one must succeed."""
    taken: list[float] = []
    until = time.perf_counter() + seconds

    async def one_after_another() -> None:
        while (began := time.perf_counter()) < until:
            await hub.ask(hub.new_ask("one", "hello"))
            taken.append(time.perf_counter() - began)

    await asyncio.gather(*(one_after_another() for _ in range(AT_ONCE)))
    return taken


def show(when: str, shown: Sequence[str]) -> None:
    print(f"    {when:14}{' '.join(shown)} ms")


async def main(seconds: float) -> None:
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    print(f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores; {seconds:.0f} s a line; p50, p99, most")
    deadlines = Deadlines(whole=60, first_text=60, idle=60)
    worst: list[float] = []
    with (
        tempfile.TemporaryDirectory() as folder,
        RedisServer(Path(folder) / "redis", appendonly="yes", appendfsync="always") as redis,
    ):
        store = RedisStore(redis.url)
        entry = Entry(AtOnce("one"), login(store), 32)
        async with Hub({"one": entry}, store=store, deadlines=deadlines, queue_limit=64) as hub:
            await load(hub, seconds)
            for fault in FAULTS:
                usual = await load(hub, seconds)
                struck = asyncio.create_task(load(hub, seconds))
                await asyncio.sleep(UNDER_WAY_S)
                strike = fault(redis)
                await asyncio.to_thread(strike.__enter__)
                at_the_blow, meanwhile = await struck, await load(hub, seconds)
                returning = asyncio.create_task(load(hub, seconds))
                await asyncio.sleep(UNDER_WAY_S)
                await asyncio.to_thread(strike.__exit__, None, None, None)
                print(f"Redis {fault.__name__}")
                show("usual", quantiles(usual))
                for when, taken in (
                    ("as it struck", at_the_blow),
                    ("meanwhile", meanwhile),
                    ("as it ended", await returning),
                ):
                    show(when, quantiles(taken))
                    worst.append(float(quantiles(taken, usual)[1]))
                await asyncio.sleep(PAUSE_S)
    print(f"added to the p99 at most: {max(worst):.0f} ms")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=3)
    asyncio.run(main(parser.parse_args().seconds))
