"""Answers a second with 1, 8 and 32 callers at once, each with its next ask as soon as the last is answered.

What answers many asks is loaded for some seconds; what starts a CLI for each is given as many asks as there are
callers. The stand-ins, all callers and what is measured share the machine's cores.

    python -m benchmarks.throughput [--quick] [--no-peers]
"""

from __future__ import annotations

import asyncio
import time

from benchmarks.bench import Bench, alone
from benchmarks.result import FailedError, Table
from benchmarks.ways import PROVIDERS, Opened, Provider, Way, ask_well, ways
from tests.harness import World

ABOUT = "Answers a second with 1, 8 and 32 callers."
CALLERS = (1, 8, 32)
SECONDS = {"direct": 1.0, "bare": 2.0, "hub": 5.0}


async def load(way: Way, opened: Opened, callers: int, seconds: float) -> tuple[float, list[str]]:
    """Answers a second, and what went wrong. `seconds` 0: one ask of each caller."""
    done = 0
    wrong: list[str] = []
    began = time.perf_counter()

    async def one_after_another() -> None:
        nonlocal done
        while True:
            try:
                await ask_well(opened, way)
                done += 1
            except FailedError as error:
                wrong.append(str(error))
            if time.perf_counter() - began >= seconds:
                return

    await asyncio.gather(*(one_after_another() for _ in range(callers)))
    return done / (time.perf_counter() - began), wrong


async def throughput(bench: Bench, world: World, provider: Provider, callers: int) -> Table:
    title = f"{callers} caller{'s' if callers > 1 else ''}, {provider.title()}"
    table = Table(f"throughput-{callers}/{provider}", title, "answers/s", base="cli", better="more")
    for way in ways(world, bench.peers, provider=provider):
        async with way.open() as opened:
            if way.stays:
                await ask_well(opened, way)
                await asyncio.sleep(1)
            seconds = bench.seconds(SECONDS[way.key]) if way.stays else 0
            few = callers if not bench.quick or way.stays else min(callers, 8)
            rate, wrong = await load(way, opened, few, seconds)
        note = f"{len(wrong)} failed: {wrong[0].strip()[:100]}" if wrong else ""
        table.add(way.key, way.name, [rate] if rate else [], note)
    bench.tell_absent(table, provider)
    return table


async def measure(bench: Bench) -> list[Table]:
    tables: list[Table] = []
    for provider in PROVIDERS:
        with bench.world() as world:
            tables += [await throughput(bench, world, provider, callers) for callers in CALLERS]
    return tables


if __name__ == "__main__":
    alone(ABOUT, measure, peers=True)
