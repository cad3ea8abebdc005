"""From a client's cancel in the middle of an answer to the end of the request at the provider.

The stand-in has sent the first words and holds the rest. The client gives up: an MCP client tells its server, a CLI in
a terminal gets Ctrl-C, a plain request closes its connection. What is measured is when the provider sees its connection
closed: until then the answer is still written, and paid.

    python -m benchmarks.cancel [--quick] [--no-peers]
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time

from benchmarks.bench import Bench, alone
from benchmarks.result import FailedError, Table
from benchmarks.ways import PROVIDERS, Opened, Provider, Way, answering, asked, ways
from tests.harness import World

ABOUT = "From a client's cancel to the closed request at the provider."
MANY = {"claude": 50, "gemini": 100}
"""Of the hub; Claude's CLI is started anew for each, a second each time."""
FLOOR, FEW, HOPELESS = 20, 3, 1
PATIENCE_S = 10.0
WORDS = ("The first words. ", "The rest.")
SETTLE_S = 0.1


async def one(world: World, way: Way, opened: Opened) -> float | None:
    """Milliseconds from the cancel to the closed request; None: still open after all that patience."""
    gate = threading.Event()
    upstream = world.upstream(way.provider)
    before = len(asked(world, way.provider))
    with answering(world, way.provider, WORDS, gate=gate):
        asking = asyncio.create_task(_quietly(opened))
        try:
            await asyncio.to_thread(upstream.wait_until, lambda: len(asked(world, way.provider)) > before, timeout=60)
            request = asked(world, way.provider)[-1]
            await asyncio.sleep(SETTLE_S)  # the first words are on their way through
            if request.done.is_set():
                raise FailedError("its request had ended before it was cancelled")
            began = time.perf_counter()
            asking.cancel()
            closed = await asyncio.to_thread(request.done.wait, PATIENCE_S)
            return (time.perf_counter() - began) * 1e3 if closed and request.ended == "disconnected" else None
        except AssertionError:
            raise FailedError("no request reached the provider") from None
        finally:
            gate.set()
            asking.cancel()
            with contextlib.suppress(asyncio.CancelledError, FailedError):
                await asking
            with contextlib.suppress(AssertionError):  # whatever is still open is not this row's
                await asyncio.to_thread(upstream.wait_until_quiet, timeout=30)


async def _quietly(opened: Opened) -> None:
    await opened.ask("hello")


async def cancels(bench: Bench, world: World, provider: Provider) -> Table:
    table = Table(f"cancel/{provider}", f"Cancel to quiet, {provider.title()}", "ms")
    for way in ways(world, bench.peers, provider=provider):
        rounds = bench.rounds(MANY[provider] if way.key == "hub" else FLOOR if way.stays else FEW)
        taken: list[float] = []
        for_ever = 0
        wrong = ""
        try:
            async with way.open() as opened:
                if way.key in {"bare", "hub"}:
                    await opened.ask("hello")
                for _ in range(rounds):
                    closed = await one(world, way, opened)
                    if closed is not None:
                        taken.append(closed)
                    elif (for_ever := for_ever + 1) >= HOPELESS:
                        break
        except FailedError as error:
            wrong = f"fails: {error}"
        note = f"after {len(taken)} that were: not within {PATIENCE_S:.0f} s" if for_ever else wrong
        if for_ever or wrong:  # what was quick of it is no measure of the way
            taken = []
        table.add(way.key, f"{way.name}, Ctrl-C" if way.key == "cli" else way.name, taken, note)
    bench.tell_absent(table, provider)
    return table


async def measure(bench: Bench) -> list[Table]:
    tables: list[Table] = []
    for provider in PROVIDERS:
        with bench.world() as world:
            tables.append(await cancels(bench, world, provider))
    return tables


if __name__ == "__main__":
    alone(ABOUT, measure, peers=True)
