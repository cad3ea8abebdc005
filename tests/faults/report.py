"""What the drill of faults prints and writes down. Knows rows, and nothing of how they came about."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.written import record
from tests.faults.table import Row

COLUMNS = ("fault", "group", "by", "expected", "got", "next ask", "orphans", "leaks", "outages told", "survived")


def expected(row: Row) -> str:
    return told({who: " or ".join(row.fault.words(who)) for who in row.fault.expected})


def told(got: dict[str, str]) -> str:
    """Who was told what; one word where all were told the same."""
    words = set(got.values())
    return words.pop() if len(words) == 1 else ", ".join(f"{who}: {word}" for who, word in got.items())


def cells(row: Row) -> list[Any]:
    outages = [*(f"false: {one}" for one in row.false_outages), *(f"missed: {one}" for one in row.missed_outages)]
    return [
        row.fault.name,
        row.fault.group,
        row.fault.by,
        expected(row),
        told(row.got) or row.broke,
        row.next_ask,
        len(row.orphans),
        len(row.leaks),
        "; ".join(outages) or "as they are",
        "yes" if row.survived else "NO",
    ]


def table(rows: Sequence[Row]) -> list[list[Any]]:
    """A line for each fault and what came of it; of several rounds how often that was."""
    return collapsed([cells(row) for row in rows])


def collapsed(lines: Sequence[Sequence[Any]]) -> list[list[Any]]:
    """Equal lines as one, in the order in which each came first."""
    counts = Counter(map(tuple, lines))
    return [[*rest, last if count == 1 else f"{last}, {count} times"] for (*rest, last), count in counts.items()]


def line(row: Row) -> str:
    """One row as it is printed, and what is wrong with it."""
    name, group, by, wanted, got, next_ask, orphans, leaks, outages, survived = map(str, cells(row))
    asked = f"{survived:3} {group:10} {name:50.50} {by:8} {wanted:36.36} | {got:36.36} | {next_ask:10.60}"
    wrong = [*row.orphans, *row.leaks, *([f"broke: {row.broke}"] if row.broke else [])]
    seen = f"{asked} | {orphans:>2} {leaks:>2} | {outages} | {row.seconds:.1f} s"
    return "\n".join([seen, *(f"      {one}" for one in wrong)])


def counted(rows: Sequence[Row]) -> dict[str, Any]:
    return {
        "survived": sum(row.survived for row in rows),
        "of": len(rows),
        "secret_leaks": sum(len(row.leaks) for row in rows),
        "orphans": sum(len(row.orphans) for row in rows),
        "false_outages": sum(len(row.false_outages) for row in rows),
        "missed_outages": sum(len(row.missed_outages) for row in rows),
    }


def summary(rows: Sequence[Row]) -> str:
    """The line that everything is for."""
    count = counted(rows)
    return (
        f"survived {count['survived']}/{count['of']}, "
        f"secret leaks {count['secret_leaks']}, orphans {count['orphans']}, "
        f"false outages {count['false_outages']}, missed outages {count['missed_outages']}"
    )


def recorded(rows: Sequence[Row], ran_on: Mapping[str, Any]) -> None:
    """Put it down as the record of a whole drill, which the page of figures shows."""
    record(
        "drill",
        "Faults survived",
        COLUMNS,
        table(rows),
        ran_on=ran_on,
        summary={**counted(rows), "text": summary(rows)},
    )
