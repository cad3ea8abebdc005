"""Throws 100,000 inputs at every part that reads what others write. Prints a table, and writes it down.

    make fuzz [INPUTS=100000] [SEED=...]        or: python -m tests.fuzz [--inputs N] [--seed N] [--only NAME]

The inputs follow from the seed, which is printed. Exits with 1 where one of them was not handled.
"""

from __future__ import annotations

import argparse
import logging
import os
import resource
import secrets
import sys
import time

import structlog

from benchmarks.machine import installed, ran_on
from benchmarks.result import plain
from benchmarks.written import record
from tests.fuzz import served
from tests.fuzz.all_targets import targets
from tests.fuzz.engine import Tally, run

INPUTS = 100_000
COLUMNS = ("target", "inputs", "taken", "refused with a code", "unhandled", "slowest, CPU ms")


def main(inputs: int, seed: int, only: str) -> int:
    """Returns the exit code."""
    # What a hub would log of each of them; an exception there is one that was raised, or an `internal` that was told.
    os.environ["TZ"] = "Pacific/Kiritimati"  # first to see a day: what is too late for a calendar is so here soonest
    time.tzset()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    chosen = [target for target in targets() if only in target.name]
    whole = sum(target.weight for target in chosen)
    on = ran_on()
    print(f"seed {seed}")
    began, before = time.monotonic(), _peak_mb()
    tallies: list[Tally] = []
    try:
        for target in chosen:
            tallies.append(run(target, -int(-inputs * target.weight // whole), seed))
            print(f"  {target.name}: {tallies[-1].inputs:,}", flush=True)
    finally:
        served.close()
    rows = [_row(tally) for tally in tallies]
    thrown, unhandled = sum(tally.inputs for tally in tallies), sum(tally.unhandled for tally in tallies)
    print(f"\n{plain(COLUMNS, rows)}")
    for tally in tallies:
        for told in tally.told:
            print(f"\n{tally.target}: {told}")
    seconds = time.monotonic() - began
    grown = _peak_mb() - before
    print(
        f"\n{thrown:,} inputs, unhandled {unhandled}; seed {seed}, {seconds:.0f} s, at most {grown:.0f} MB more memory"
    )
    if not only and thrown >= INPUTS:  # a smaller run is nobody's record
        summary = {
            "text": f"{thrown:,} inputs, {unhandled} of them unhandled; {grown:.0f} MB more memory at most.",
            "inputs": thrown,
            "unhandled": unhandled,
            "most_memory_added_mb": round(grown),
            "codes": {tally.target: dict(tally.outcomes.most_common()) for tally in tallies},
        }
        on |= {"seconds": round(seconds, 1), "seed": seed, "versions": installed()}
        record("fuzz", "Inputs that are taken or refused with a code", COLUMNS, rows, ran_on=on, summary=summary)
    return 1 if unhandled or not thrown else 0


def _row(tally: Tally) -> tuple[object, ...]:
    taken = tally.outcomes["taken"]
    refused = tally.outcomes.total() - taken
    return tally.target, tally.inputs, taken, refused, tally.unhandled, round(tally.slowest_s * 1e3, 1)


def _peak_mb() -> float:
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most / (1e6 if sys.platform == "darwin" else 1e3)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--inputs", type=int, default=int(os.environ.get("HUB_FUZZ_INPUTS") or INPUTS))
    parser.add_argument("--seed", type=int, default=int(os.environ.get("HUB_FUZZ_SEED") or secrets.randbelow(10**6)))
    parser.add_argument("--only", default="", help="targets whose names hold this")
    given = parser.parse_args()
    sys.exit(main(given.inputs, given.seed, given.only))
