"""What an ask weighs: memory of the whole process tree, idle and with eight asks in the air, and CPU time of one ask.

Memory is PSS: what processes share is counted once. The eight are held in the middle by the stand-in while it is read.

    python -m benchmarks.weight [--quick] [--no-peers]
"""

from __future__ import annotations

import asyncio
import resource
import threading

from benchmarks.bench import Bench, alone
from benchmarks.result import FailedError, Table
from benchmarks.ways import PROVIDERS, Opened, Provider, Way, answering, ask_well, cpu_of, tree, ways, weight
from tests.harness import World

ABOUT = "Memory and CPU time of asks."
IN_THE_AIR = 8
ASKS, FEW = 12, 3
PAUSE_S = 1.0
"""Between two asks of the hub: what the hub makes ahead for the next is part of an ask's price."""


async def held(world: World, way: Way, opened: Opened) -> tuple[float, float, int]:
    """The tree's weight while so many asks are being answered."""
    gate = threading.Event()
    before = world.prompts_received(way.provider)

    def came() -> int:
        return world.prompts_received(way.provider) - before

    with answering(world, way.provider, ("Held. ", "Free."), gate=gate):
        asking = [asyncio.ensure_future(opened.ask("hello")) for _ in range(IN_THE_AIR)]
        try:
            await asyncio.to_thread(world.upstream(way.provider).wait_until, lambda: came() >= IN_THE_AIR, timeout=90)
            await asyncio.sleep(PAUSE_S)
            return await asyncio.to_thread(weight_of, opened)
        except AssertionError:
            raise FailedError(f"{came()} of {IN_THE_AIR} requests reached the provider") from None
        finally:
            gate.set()
            await asyncio.gather(*asking, return_exceptions=True)


def weight_of(opened: Opened) -> tuple[float, float, int]:
    return weight(tree(opened.roots()))


async def weights(bench: Bench, world: World, provider: Provider) -> list[Table]:
    name = provider.title()
    idle = Table(f"idle/{provider}", f"Memory after an ask, {name}", "MB (PSS)")
    busy = Table(
        f"busy/{provider}",
        f"Memory with {IN_THE_AIR} asks at once, {name}",
        "MB (PSS)",
        base="cli",
        about=f"The hub may run {IN_THE_AIR}: `HUB_CLAUDE_CONCURRENCY={IN_THE_AIR}`, which is four by default.",
    )
    spent = Table(f"cpu/{provider}", f"CPU time of an ask, {name}", "ms", base="cli")
    for way in ways(world, bench.peers, provider=provider):
        if way.key == "direct":
            continue
        try:
            async with way.open() as opened:
                await ask_well(opened, way)
                await asyncio.sleep(2 * PAUSE_S)
                pss, uss, number = await asyncio.to_thread(weight_of, opened)
                if number:
                    idle.add(way.key, way.name, [pss], _of(uss, number))
                else:
                    idle.add(way.key, way.name, note="nothing stays")
                spent.add(way.key, way.name, [await cpu(bench, way, opened)])
                pss, uss, number = await held(world, way, opened)
            busy.add(way.key, way.name, [pss], _of(uss, number))
        except FailedError as error:
            for table in (idle, spent, busy):
                if table.row(way.key) is None:
                    table.add(way.key, way.name, note=f"fails: {error}")
    return [idle, busy, spent]


def _of(uss: float, number: int) -> str:
    return f"{uss:,.0f} MB of its own, {number} process{'es' if number > 1 else ''}"


async def cpu(bench: Bench, way: Way, opened: Opened) -> float:
    """Milliseconds of CPU time of one ask, user and system, over the whole tree."""
    rounds = bench.rounds(ASKS) if way.stays else FEW
    before = _spent(way, opened)
    for _ in range(rounds):
        await ask_well(opened, way)
        await asyncio.sleep(PAUSE_S if way.key == "hub" else 0)
    return (_spent(way, opened) - before) / rounds * 1e3


def _spent(way: Way, opened: Opened) -> float:
    if way.key == "cli":  # children of this process, which has waited for them
        of_children = resource.getrusage(resource.RUSAGE_CHILDREN)
        return of_children.ru_utime + of_children.ru_stime
    return cpu_of(tree(opened.roots()))


async def measure(bench: Bench) -> list[Table]:
    tables: list[Table] = []
    for provider in PROVIDERS:
        with bench.world() as world:
            world.changes["HUB_CLAUDE_CONCURRENCY"] = str(IN_THE_AIR)
            tables += await weights(bench, world, provider)
    return tables


if __name__ == "__main__":
    alone(ABOUT, measure, peers=True)
