"""A hub over HTTP under mixed load for minutes or an hour: does anything of it grow, is anything lost, or left over?

Both real CLIs against the stand-ins; Google's access tokens end all the time, and now and then a child is killed. Every
few seconds the load stops: what a hub holds at rest is compared, so that no open call counts as a leak. A slope is that
of Theil and Sen with its bounds of 95 %; it is held against a limit only by its lower bound.

    make soak [MINUTES=3] [STORE=redis]         or: python benchmarks/soak.py [--minutes N] [--store sqlite] [--seed N]

Exits with 1 where something grows, an ask has not ended or has another's answer, the log holds an exception, or
anything is left at the end.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import random
import secrets
import sys
import tempfile
import time
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import psutil  # noqa: E402 - after the path is set

from benchmarks.machine import installed, ran_on  # noqa: E402
from benchmarks.result import plain  # noqa: E402
from benchmarks.soak_load import Load  # noqa: E402
from benchmarks.trend import grows, trend  # noqa: E402
from benchmarks.written import record  # noqa: E402
from llm_mcp_hub.conversation import read  # noqa: E402
from llm_mcp_hub.journal import Record  # noqa: E402
from llm_mcp_hub.store.base import ASKS, key  # noqa: E402
from tests.guarantees.drill import run_folders  # noqa: E402
from tests.guarantees.durable import held_in, store_of  # noqa: E402
from tests.harness import HttpHub, World, make_world  # noqa: E402
from tests.upstreams.google import write_login  # noqa: E402
from tests.upstreams.redis import RedisServer  # noqa: E402

WHOLE = 60
"""Minutes of a run that is kept as a record."""
CLIENTS = 4
UNDER_LOAD_S = 8.0
SETTLES_S = 1.5
"""What a hub does after the last answer: it makes clients and sessions ahead."""
WARM_UP = 0.3
"""So much of a run counts for nothing: what is kept for later turns is filled up."""
FEWEST = 4
"""Samples at rest that a slope is made of: with fewer it has no bounds, and nothing would ever grow."""
SAMPLE_S = 2.0
KILLED_EVERY, REFUSED_EVERY = 4, 6
"""Rounds of load from one killed child, or one refused access token, to the next."""
ACCESS_S = 340
"""How long an access token is good. The CLI renews it 300 s before its end."""
MB = 1e6


@dataclass(frozen=True)
class Sample:
    """What is there at one moment."""

    at: float
    """Hours since the beginning."""
    asks: int
    uss: float
    rss: float
    children_uss: float
    fds: float
    threads: float
    processes: float
    database: float
    folder: float
    """Bytes of the run folder: the children's homes."""

    def of(self, name: str) -> float:
        """One of its figures."""
        return getattr(self, name)


@dataclass(frozen=True)
class Watched:
    """One figure, and how much it may grow.

    Attributes:
        name: of the figure.
        title: its row.
        unit: what it is divided by.
        per_ask: whether it grows with asks: what is kept of each, for a time.
        allowed: how much it may grow in an hour, or for each ask.
        noise: how much it may have grown in all, whatever the slope: what comes and goes.
    """

    name: str
    title: str
    unit: float
    allowed: float | None
    noise: float
    per_ask: bool = False


WATCHED = (
    # In its first thousand asks a hub fills SQLite's page cache, 2 MB; after that it was flat over 8,000 (measured).
    Watched("uss", "hub, memory of its own (MB)", MB, 20.0, 6.0),
    Watched("rss", "hub, resident (MB)", MB, None, 0.0),
    Watched("children_uss", "children, memory of their own (MB)", MB, None, 0.0),
    Watched("fds", "hub, descriptors", 1.0, 0.0, 8.0),
    Watched("threads", "hub, threads", 1.0, 0.0, 4.0),
    Watched("processes", "processes", 1.0, 0.0, 3.0),
    Watched("database", "database (KB)", 1e3, 16.0, 512.0, per_ask=True),
    Watched("folder", "children's homes (KB)", 1e3, None, 0.0),
)
COLUMNS = ("what", "first", "last", "most", "slope", "low", "high", "of", "limit", "grows")


class Watch:
    """Looks at a hub and all that belongs to it."""

    def __init__(self, world: World, hub: HttpHub, redis: RedisServer | None) -> None:
        self._world = world
        self._hub = psutil.Process(hub.process.pid)
        self._redis = redis
        self._began = time.monotonic()

    def sample(self, asks: int) -> Sample:
        """All figures now. What ends meanwhile counts for nothing."""
        memory = self._hub.memory_full_info()
        children = self._hub.children(recursive=True)
        return Sample(
            at=(time.monotonic() - self._began) / 3600,
            asks=asks,
            uss=memory.uss,
            rss=memory.rss,
            children_uss=sum(_uss(child) for child in children),
            fds=self._hub.num_fds(),
            threads=self._hub.num_threads(),
            processes=1 + len(children),
            database=self._database(),
            folder=sum(_size(Path(at, name)) for at, _, names in os.walk(self._world.state / "run") for name in names),
        )

    def _database(self) -> float:
        if self._redis is not None:
            with self._redis.client() as client:
                return float(client.info("memory")["used_memory_dataset"])
        return float(sum(_size(file) for file in self._world.state.glob("hub.sqlite3*")))


def _uss(process: psutil.Process) -> float:
    try:
        return process.memory_full_info().uss
    except psutil.Error:
        return 0.0


def _size(file: Path) -> int:
    try:
        return 0 if file.is_symlink() or not file.is_file() else file.stat().st_size
    except OSError:
        return 0


class Soak:
    """One run."""

    def __init__(self, world: World, hub: HttpHub, load: Load, watch: Watch) -> None:
        self.world = world
        self.hub = hub
        self.load = load
        self.watch = watch
        self.at_rest: list[Sample] = []
        self.under_load: list[Sample] = []
        self._working = asyncio.Event()
        self._busy = 0
        self._over = False

    async def run(self, seconds: float) -> None:
        """Load and rest in turns."""
        clients = [asyncio.create_task(self._client()) for _ in range(CLIENTS)]
        until, number = time.monotonic() + seconds, 0
        while time.monotonic() < until:
            number += 1
            self._working.set()
            await self._watched(UNDER_LOAD_S / 2)
            for every, blow in ((KILLED_EVERY, self.load.killed_child), (REFUSED_EVERY, self.load.refused_access)):
                if number % every == 0:
                    await self.load.run(blow)
            await self._watched(UNDER_LOAD_S / 2)
            self._working.clear()
            while self._busy:
                await self._watched(0.2)
            await asyncio.sleep(SETTLES_S)
            self.at_rest.append(await asyncio.to_thread(self.watch.sample, self.load.asks))
            self.load.forget()
            if number % 10 == 0:
                last = self.at_rest[-1]
                shown = f"{last.asks:,} asks, {last.uss / MB:.1f} MB, {last.fds:.0f} descriptors"
                print(f"  {last.at * 60:.1f} min: {shown}", flush=True)
        self._over = True
        self._working.set()
        await asyncio.gather(*clients)

    async def _client(self) -> None:
        while True:
            await self._working.wait()
            if self._over:
                return
            self._busy += 1
            try:
                await self.load.run(self.load.job())
            finally:
                self._busy -= 1

    async def _watched(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            await asyncio.sleep(min(left, SAMPLE_S))
            self.under_load.append(await asyncio.to_thread(self.watch.sample, self.load.asks))

    # -- what is to be said of it --------------------------------------------------------------------------------------

    def rows(self) -> list[tuple[Any, ...]]:
        """The table; the last column says whether it grows more than it may."""
        counted = self.at_rest[int(len(self.at_rest) * WARM_UP) :]
        return [self._row(watched, counted) for watched in WATCHED]

    def _row(self, watched: Watched, counted: list[Sample]) -> tuple[Any, ...]:
        values = [sample.of(watched.name) / watched.unit for sample in counted]
        at = [float(sample.asks) if watched.per_ask else sample.at for sample in counted]
        found = trend(at, values)
        span = at[-1] - at[0] if at else 0.0
        limit = watched.allowed
        growing = limit is not None and grows(found, limit, over=span, noise=watched.noise)
        most = max(sample.of(watched.name) for sample in self.under_load + self.at_rest) / watched.unit
        shown = [values[0], values[-1], most, found.slope, found.low, found.high]
        return (
            watched.title,
            *(round(value, 2) if abs(value) < float("inf") else None for value in shown),
            "ask" if watched.per_ask else "hour",
            limit,
            "" if limit is None else "GROWS" if growing else "no",
        )


async def unended(world: World, load: Load) -> list[str]:
    """Asks that are not in the store, or have no end there."""
    store = store_of(world)
    try:
        values = await store.newest(key(ASKS, who="owner"), 10_000_000)
    finally:
        await store.close()
    records = [record for value in values if (record := read(Record, value)) is not None]
    there = {record.ask_id for record in records}
    return [
        *(f"{record.ask_id} ({record.title}) is {record.status}" for record in records if not record.ended),
        *(f"{ask_id} ({prompt}) is not there" for ask_id, prompt in load.accepted.items() if ask_id not in there),
        *([f"{len(values) - len(records)} records cannot be read"] if len(values) != len(records) else []),
    ]


@contextlib.contextmanager
def _store(world: World, kind: str, folder: Path) -> Generator[RedisServer | None]:
    if kind == "sqlite":
        yield None
        return
    with RedisServer(folder / "redis") as server:
        world.changes["REDIS_URL"] = server.url
        yield server


def main(minutes: float, kind: str, seed: int) -> int:
    """Returns the exit code."""
    print(f"{minutes:g} min, {kind}, seed {seed}")
    on, began = ran_on(), time.monotonic()
    with tempfile.TemporaryDirectory() as kept, make_world(Path(kept) / "world") as world:
        world.gemini.oauth.lifetime_s = ACCESS_S
        write_login(world.home / ".gemini", expires_in_s=ACCESS_S)
        with _store(world, kind, Path(kept)) as redis:
            hub = HttpHub(world.environment)
            try:
                load = Load(world, hub.url, random.Random(seed))
                soak = Soak(world, hub, load, Watch(world, hub, redis))
                asyncio.run(soak.run(minutes * 60))
                faults = _at_the_end(world, load)
            finally:
                code = hub.stop()
            faults |= {"exit code": [] if code == 0 else [str(code)]}
            broken = [line for line in hub.log if '"exception"' in line or "Traceback" in line]
            faults |= {"exceptions in the log": broken}
            faults |= {"left behind": _left(world)}
            on |= {"seconds": round(time.monotonic() - began, 1), "seed": seed, "versions": installed()}
            return _told(soak, faults, minutes=minutes, kind=kind, on=on)


def _at_the_end(world: World, load: Load) -> dict[str, list[str]]:
    for upstream in (world.claude, world.gemini):
        upstream.wait_until_quiet(timeout=60)
    return {
        "asks without an end": asyncio.run(unended(world, load)),
        "calls without their answer": load.wrong,
        "places and leases held": held_in(world),
        "surprises at the stand-ins": world.surprises,
    }


def _left(world: World) -> list[str]:
    try:
        world.wait_until_no_child()
    except AssertionError as error:
        return [str(error)]
    return [str(folder.name) for folder in run_folders(world)]


def _told(soak: Soak, faults: dict[str, list[str]], *, minutes: float, kind: str, on: dict[str, Any]) -> int:
    """Print and write what came of it. Returns the exit code."""
    rows, load = soak.rows(), soak.load
    counted_samples = len(soak.at_rest) - int(len(soak.at_rest) * WARM_UP)
    completed = load.counts["completed"]
    faults["too few samples for a slope"] = [] if counted_samples >= FEWEST else [f"{counted_samples} of {FEWEST}"]
    faults["too few answers"] = [] if completed * 2 > load.asks else [f"{completed} of {load.asks}"]
    print(f"\nat rest, after the first {WARM_UP:.0%}; `most`: also under load\n{plain(COLUMNS, rows)}\n")
    done = {name: count for name, count in sorted(load.counts.items()) if name.startswith("did: ")}
    ended = {name: count for name, count in sorted(load.counts.items()) if not name.startswith("did: ")}
    print(f"{load.asks:,} asks: {ended}\n{done}\nlogins renewed: {soak.world.gemini.oauth.refreshes}")
    for what, found in faults.items():
        print(f"{what}: {len(found)}")
        for each in found[:5]:
            print(f"  {each.strip()[:1_000]}")
    growing = [str(row[0]) for row in rows if row[-1] == "GROWS"]
    counted = {what: len(found) for what, found in faults.items()}
    failed = bool(growing) or any(counted.values())
    print(f"{'FAILED' if failed else 'passed'}: {', '.join(growing) or 'nothing'} grows")
    lost = counted["asks without an end"] + counted["calls without their answer"]
    summary = {
        "text": f"{load.asks:,} asks, {lost} lost; what grows at rest: {', '.join(growing) or 'nothing'}. Left at the "
        f"end: {counted['left behind']}; exceptions in the log: {counted['exceptions in the log']}.",
        "minutes": minutes,
        "store": kind,
        "passed": not failed,
        "grows": growing,
        "asks": load.asks,
        "ended_as": ended,
        "done": done,
        "logins_renewed": soak.world.gemini.oauth.refreshes,
        "samples": {"at rest": len(soak.at_rest), "under load": len(soak.under_load)},
        **{what.replace(" ", "_"): count for what, count in counted.items()},
    }
    if minutes >= WHOLE:  # a shorter one is nobody's record
        name = "soak" if kind == "sqlite" else f"soak_{kind}"
        title = f"A hub over HTTP under mixed load for {minutes:g} minutes, on {kind}"
        record(name, title, COLUMNS, rows, ran_on=on, summary=summary)
    return 1 if failed else 0


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=3.0)
    parser.add_argument("--store", choices=("sqlite", "redis"), default="sqlite")
    parser.add_argument("--seed", type=int, default=secrets.randbelow(10**6))
    given = parser.parse_args()
    sys.exit(main(given.minutes, given.store, given.seed))
