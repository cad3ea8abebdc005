"""All parts in one run: medians and ratios, printed as Markdown and kept as JSON.

    python -m benchmarks [--quick] [--json FILE] [--peers-in FOLDER] [--no-peers] [PART ...]

A full run of all parts is kept in benchmarks/results/latest.json, which `make figures` makes the documents of. A quick
one, and one of some parts, is only printed.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib
import sys
import tempfile
import time
import traceback
from pathlib import Path

from benchmarks.bench import Bench, measured
from benchmarks.machine import installed, pinned, ran_on
from benchmarks.page import TITLES, page
from benchmarks.peers import Peer, install
from benchmarks.result import Part, Run
from benchmarks.written import LATEST, keep

PARTS = tuple(TITLES)


async def run(parts: list[str], *, quick: bool, peers: bool, peers_in: Path | None) -> Run:
    """One run. A part that fails says so, and the others go on."""
    on, began = ran_on(), time.perf_counter()
    done: list[Part] = []
    with tempfile.TemporaryDirectory() as kept:
        folder = Path(kept)
        there: list[Peer] = []
        absent: dict[str, str] = {}
        if peers:
            there, absent = await install(peers_in or folder / "peers")
            print(f"bridges: {len(there)}; {time.perf_counter() - began:.0f} s", file=sys.stderr)
        for key in parts:
            module = importlib.import_module(f"benchmarks.{key}")
            since = time.perf_counter()
            bench = Bench(folder / key, there, absent, quick)
            try:
                part = await measured(key, module.ABOUT, module.measure, bench)
            except Exception as error:
                traceback.print_exc()
                part = Part(key, module.ABOUT, [], failed=f"{type(error).__name__}: {error}"[:300])
            done.append(part)
            print(f"{key}: {time.perf_counter() - since:.0f} s", file=sys.stderr, flush=True)
    on |= {"quick": quick, "seconds": round(time.perf_counter() - began, 1)}
    return Run(on, pinned(), {**pinned(), **installed()}, done)


def main() -> int:
    """Run, print, keep. Returns the exit code: 1 if a part failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"default: all of {', '.join(PARTS)}")
    parser.add_argument("--quick", action="store_true", help="a tenth of the rounds")
    parser.add_argument("--json", type=Path, help="keep the run there")
    parser.add_argument("--no-peers", action="store_true", help="without the public bridges")
    parser.add_argument("--peers-in", type=Path, help="install the bridges there, or use those that are there")
    given = parser.parse_args()
    if unknown := set(given.parts) - set(PARTS):
        parser.error(f"no such part: {', '.join(sorted(unknown))}")
    parts = given.parts or list(PARTS)
    said = asyncio.run(run(parts, quick=given.quick, peers=not given.no_peers, peers_in=given.peers_in))
    failed = [part.key for part in said.parts if part.failed]
    astray = {name: found for name, found in said.versions.items() if said.pinned.get(name, found) != found}
    if astray:
        print(f"Installed is not what the tree pins: {astray}; run: make install", file=sys.stderr)
    whole = not (given.quick or given.parts or given.no_peers or failed or astray)
    if target := given.json or (LATEST if whole else None):
        keep(said, target)
    print(page(said, {}))
    if target is None:
        print("(Not kept: only a full run of all parts is.)", file=sys.stderr)
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main())
