"""`python -m tests.faults`: strike with every fault, print what came of it, and write it down. See `--help`."""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import sys
import tempfile
import time
import traceback
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil

from benchmarks.machine import installed, ran_on
from tests.faults.faults import FAULTS, STAGES, by_hub
from tests.faults.report import line, recorded, summary
from tests.faults.stage import Stage, make_stage
from tests.faults.table import GROUPS, Fault, Row


def struck(stage: Stage, fault: Fault) -> Row:
    """One fault, and the four looks."""
    row = Row(fault)
    began = time.monotonic()
    hits = len(stage.search.hits)
    try:
        stage.mended()
        with fault.strike(stage) as row.got:
            judge(row, stage.statuses(), lasting=True)
        row.next_ask = stage.next_ask()
        judge(row, stage.statuses(), lasting=False)
        row.orphans = stage.orphans()
        stage.look_for_secrets()
    except Exception as error:
        row.broke = f"{type(error).__name__}: {error}".partition("\n")[0][:300]
        row.got = row.got or {}
        traceback.print_exc()
    row.leaks = stage.search.hits[hits:]
    row.seconds = time.monotonic() - began
    return row


def judge(row: Row, told: dict[str, str], *, lasting: bool) -> None:
    """Whether the logins are told as they are: while the fault lasts, and when it is over."""
    usable = {"valid", "warning", "unknown"}
    for provider, word in told.items():
        wanted = row.fault.outage.get(provider) if lasting else None
        if wanted is None and word not in usable:
            row.false_outages.append(f"{provider}: {word}")
        elif wanted is not None and word not in ((wanted,) if isinstance(wanted, str) else wanted):
            row.missed_outages.append(f"{provider}: {word}")


def on_one_hub(kind: str, faults: list[Fault], *, verbose: bool) -> list[Row]:
    """What strikes the same hub, one fault after the other."""
    rows: list[Row] = []
    with tempfile.TemporaryDirectory(prefix="faults-") as folder:
        try:
            with make_stage(kind, Path(folder) / kind) as stage:
                for fault in faults:
                    rows.append(struck(stage, fault))
                    print(line(rows[-1]), flush=True)
                    if verbose and not rows[-1].survived and stage.running:
                        print(stage.log.text[-20_000:], file=sys.stderr)
                hits = len(stage.search.hits)
            # The end of a hub belongs to what it met last.
            rows[-1].leaks += stage.search.hits[hits:]
            rows[-1].orphans += stage.leftovers()
        except Exception as error:
            rows += [Row(fault, broke="not struck: its hub is gone") for fault in faults[len(rows) :]]
            rows[-1].broke = rows[-1].broke or f"{type(error).__name__}: {error}"[:300]
            traceback.print_exc()
    return rows


def drill(faults: list[Fault], rounds: int, *, at_once: int, verbose: bool) -> list[Row]:
    """Every fault, so many times; `at_once` hubs are struck beside each other."""
    with ThreadPoolExecutor(at_once) as pool:
        hubs = [hub for _ in range(rounds) for hub in by_hub(faults)]
        done = [pool.submit(on_one_hub, kind, own, verbose=verbose) for kind, own in hubs]
        return [row for one in done for row in one.result()]


def give_up(number: int, _frame: object) -> None:
    """Told to end, or interrupted: nothing that was started here lives on, and nobody waits for a fault to be over."""
    for child in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.Error):
            child.kill()
    os._exit(128 + number)


def main() -> int:
    """Exit code 0 when every fault was survived in every round."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--at-once", type=int, default=2, help="how many hubs are struck beside each other")
    parser.add_argument("--group", choices=GROUPS, action="append", help="only this group; may be repeated")
    parser.add_argument("--stage", choices=STAGES, action="append", help="only those that strike this hub")
    parser.add_argument("--only", metavar="WORDS", help="only faults whose name holds this")
    parser.add_argument("--keep", action="store_true", help="as the record that docs/figures.md is made of")
    parser.add_argument("--verbose", action="store_true", help="show the hub's log of what was not survived")
    given = parser.parse_args()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, give_up)
    faults = [
        fault
        for fault in FAULTS
        if (given.group is None or fault.group in given.group)
        and (given.stage is None or fault.stage in given.stage)
        and (given.only is None or given.only in fault.name)
    ]
    on, began = ran_on(), time.monotonic()
    rows = drill(faults, given.rounds, at_once=given.at_once, verbose=given.verbose)
    print(summary(rows))
    if given.keep:
        on |= {"rounds": given.rounds, "seconds": round(time.monotonic() - began), "versions": installed()}
        recorded(rows, on)
    return 0 if rows and all(row.survived for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
