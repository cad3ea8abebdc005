"""What an ask costs: the floor, a bare SDK server, the hub warm and cold, the bare CLIs and the public bridges.

Everything runs against the stand-ins on loopback with delay 0, so what is measured is what stands between a caller and
the provider. Warm asks come a second apart, as a person's or an agent's do; it also lets the hub make the next client
ready. And when the first text of an answer that comes in pieces can be seen.

    python -m benchmarks.ask_latency [--quick] [--no-peers]
"""

from __future__ import annotations

import asyncio
import time

from benchmarks.bench import Bench, alone, timed
from benchmarks.result import FailedError, Table
from benchmarks.ways import PROVIDERS, Provider, Way, answering, ask_well, hub, must_hold, shell, ways
from tests.harness import World

ABOUT = "What an ask costs, new and cold, and when its first text is seen."
PAUSE_S = 1.0
MANY, FEW, FIRST = 20, 5, 3
PIECES = ("The first words. ", "Then more. ", "And the rest.")
BETWEEN_S = 0.5


async def asks(bench: Bench, world: World, provider: Provider) -> Table:
    """A new conversation each."""
    table = Table(
        f"ask/{provider}",
        f"One ask, {provider.title()}: a new conversation",
        "ms",
        base="direct",
        about=f"The hub's asks come {PAUSE_S:.0f} s apart, in which it makes the next client ready; that is not timed. "
        "The throughput below has no such pauses.",
    )
    for way in ways(world, bench.peers, provider=provider):
        try:
            taken = await _asked(bench, way)
            table.add(way.key, f"{way.name}, warm" if way.key == "hub" else way.name, taken)
        except FailedError as error:
            table.add(way.key, way.name, note=f"fails: {error}")
        if way.key == "hub":
            await _cold(bench, table, world, provider)
    bench.tell_absent(table, provider)
    return table


async def _asked(bench: Bench, way: Way) -> list[float]:
    async with way.open() as opened:

        async def once() -> None:
            await ask_well(opened, way)

        await once()  # the first is another matter: see the cold ones
        return await timed(bench.rounds(MANY if way.stays else FEW), once, PAUSE_S if way.key == "hub" else 0.05)


async def _cold(bench: Bench, table: Table, world: World, provider: Provider) -> None:
    """The first ask of a hub: started by an MCP client, and in the shell."""
    for key, name, way in (
        ("hub-cold", f"hub, cold: started over stdio, then `ask_{provider}`", hub(world, provider)),
        ("shell", f"hub, cold: `llm-mcp-hub ask {provider}`", shell(world, provider)),
    ):
        taken: list[float] = []
        for _ in range(bench.rounds(FEW)):
            began = time.perf_counter()
            async with way.open() as opened:
                await ask_well(opened, way)
                taken.append((time.perf_counter() - began) * 1e3)
        table.add(key, name, taken)


async def first_texts(bench: Bench, world: World, provider: Provider) -> Table:
    """An answer in pieces: when the first of it can be seen by whoever asked."""
    whole = BETWEEN_S * (len(PIECES) - 1)
    table = Table(
        f"first-text/{provider}",
        f"Time to the first text, {provider.title()}",
        "ms",
        about=f"Of an answer in {len(PIECES)} pieces that takes {whole:.0f} s. An MCP result comes whole: how early "
        "the hub itself has the first text, its answer tells (`first_text_ms`); its shell prints it at once.",
    )
    every = ways(world, bench.peers, provider=provider)
    with answering(world, provider, PIECES, between_s=BETWEEN_S):
        for way in [*every[:3], shell(world, provider), *every[3:]]:
            try:
                taken, at_once = await _first_seen(bench, way)
                table.add(way.key, way.name, taken, "" if at_once else "with the whole answer")
            except FailedError as error:
                table.add(way.key, way.name, note=f"fails: {error}")
    bench.tell_absent(table, provider)
    return table


async def _first_seen(bench: Bench, way: Way) -> tuple[list[float], bool]:
    """Milliseconds, and whether the first text comes before the last."""
    taken: list[float] = []
    async with way.open() as opened:
        if way.stays:
            await opened.ask("hello")
        for _ in range(bench.rounds(FIRST)):
            await asyncio.sleep(PAUSE_S if way.key == "hub" else 0)
            began = time.perf_counter()
            if opened.first_text is not None:
                taken.append(await opened.first_text("hello"))
            else:
                said = await opened.ask("hello")
                taken.append((time.perf_counter() - began) * 1e3)
                must_hold(said, PIECES[0].strip())
        return taken, opened.first_text is not None


async def measure(bench: Bench) -> list[Table]:
    tables: list[Table] = []
    for part in (asks, first_texts):
        for provider in PROVIDERS:
            with bench.world() as world:
                tables.append(await part(bench, world, provider))
    return tables


if __name__ == "__main__":
    alone(ABOUT, measure, peers=True)
