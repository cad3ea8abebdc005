"""What every part is given, and how one is run alone: `python -m benchmarks.PART [--quick] [--no-peers]`."""

from __future__ import annotations

import argparse
import asyncio
import os
import tempfile
import time
from collections.abc import Awaitable, Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.peers import Peer, install
from benchmarks.result import Part, Table, markdown
from tests.harness import World, make_world


@dataclass
class Bench:
    """A folder for the run, the bridges that are installed, and how often things are done."""

    folder: Path
    peers: Sequence[Peer] = ()
    absent: dict[str, str] = field(default_factory=dict[str, str])
    """Bridges that could not be installed, and why."""
    quick: bool = False
    _worlds: int = 0

    def rounds(self, number: int) -> int:
        """So many, or a tenth of them in a quick run; one at least."""
        return max(1, round(number / 10)) if self.quick else number

    def seconds(self, number: float) -> float:
        """So long, or a quarter of it in a quick run: much less would be no load."""
        return number / 4 if self.quick else number

    @contextmanager
    def world(self) -> Generator[World]:
        """A private home with both logins and both stand-ins, fresh."""
        self._worlds += 1
        with make_world(self.folder / f"world-{self._worlds}") as world:
            yield world

    def tell_absent(self, table: Table, provider: str) -> None:
        """A row for each bridge that is not there."""
        for name, why in self.absent.items():
            if provider in name:
                table.add(name, f"`{name}`", note=f"not installed: {why}")


Measure = Callable[[Bench], Awaitable[list[Table]]]


async def measured(key: str, about: str, measure: Measure, bench: Bench) -> Part:
    """One part, run."""
    bench.folder.mkdir(parents=True, exist_ok=True)
    load, began = os.getloadavg()[0], time.perf_counter()
    tables = await measure(bench)
    return Part(key, about, tables, round(time.perf_counter() - began, 1), round(load, 2))


async def timed(rounds: int, work: Callable[[], Awaitable[Any]], pause_s: float) -> list[float]:
    """Milliseconds of each of `rounds` runs of `work`, with a pause before each."""
    taken: list[float] = []
    for _ in range(rounds):
        await asyncio.sleep(pause_s)
        began = time.perf_counter()
        await work()
        taken.append((time.perf_counter() - began) * 1e3)
    return taken


def alone(about: str, measure: Measure, *, peers: bool = False) -> None:
    """Run one part and print its tables. `peers`: whether it compares with the bridges, which are installed first."""
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a tenth of the rounds")
    if peers:
        parser.add_argument("--no-peers", action="store_true", help="without the public bridges")
        parser.add_argument("--peers-in", type=Path, help="install the bridges there, or use those that are there")
    given = parser.parse_args()

    async def run() -> None:
        with tempfile.TemporaryDirectory() as kept:
            folder = Path(kept)
            there: list[Peer] = []
            absent: dict[str, str] = {}
            if peers and not given.no_peers:
                there, absent = await install(given.peers_in or folder / "peers")
            part = await measured("", about, measure, Bench(folder, there, absent, given.quick))
        print(f"load at the start {part.load}; {part.seconds} s\n")
        for table in part.tables:
            print(markdown(table))

    asyncio.run(run())
