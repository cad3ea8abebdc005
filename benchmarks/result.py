"""What a run says: rows of one shape, in tables, in a run. Knows neither what is measured nor on what; of the world it
asks the clock alone, between two rows.

A table has one unit. Of each row it keeps how often it was measured, p50, p99 where there are enough values, the most
and the least; a row without values says why in its note.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from pydantic import TypeAdapter

ENOUGH = 100
"""So many values make a p99; of fewer the most is the honest figure."""

Better = Literal["less", "more"]


class FailedError(Exception):
    """What was to be measured gave no answer; the message is what it said."""


@dataclass(frozen=True)
class Row:
    """One thing, measured under one condition."""

    key: str
    """By which budgets and ratios find it; unique in its table."""
    way: str
    n: int = 0
    p50: float | None = None
    p99: float | None = None
    least: float | None = None
    most: float | None = None
    note: str = ""
    took_s: float = 0.0
    """Seconds that the measuring of this row took."""


@dataclass
class Table:
    """Rows of one unit, and which of them the others are held against."""

    key: str
    title: str
    unit: str
    base: str | None = None
    """The key of that row; None where a ratio would say nothing."""
    better: Better = "less"
    about: str = ""
    rows: list[Row] = field(default_factory=list[Row])
    since: float = field(default_factory=time.perf_counter, init=False, repr=False, compare=False)
    """When the last row was added; no part of what is said."""

    def add(self, key: str, way: str, values: Iterable[float] = (), note: str = "") -> None:
        """A row, of values in this table's unit. What it took is the time since the row before."""
        measured, now = list(values), time.perf_counter()
        row = Row(key, way, len(measured), note=note, took_s=round(now - self.since, 1))
        if measured:
            row = Row(
                key,
                way,
                len(measured),
                p50=_short(statistics.median(measured)),
                p99=_short(statistics.quantiles(measured, n=100)[98]) if len(measured) >= ENOUGH else None,
                least=_short(min(measured)),
                most=_short(max(measured)),
                note=note,
                took_s=row.took_s,
            )
        self.rows.append(row)
        self.since = now

    def row(self, key: str) -> Row | None:
        return next((row for row in self.rows if row.key == key), None)


@dataclass
class Part:
    """The tables of one part of the run, and what the machine was busy with when it began."""

    key: str
    about: str
    tables: list[Table]
    seconds: float = 0.0
    load: float = 0.0
    """The load average of one minute, at its start."""
    failed: str = ""
    """Why it has no tables."""


@dataclass
class Run:
    """Everything that one run says."""

    ran_on: dict[str, Any]
    pinned: dict[str, str]
    """Versions of what is measured: where the tree pins others, this run is stale."""
    versions: dict[str, str]
    parts: list[Part]

    def row(self, table: str, key: str) -> Row | None:
        """A row by its table's key and its own."""
        tables = (found for part in self.parts for found in part.tables if found.key == table)
        return next((row for found in tables if (row := found.row(key)) is not None), None)

    def p50(self, table: str, key: str) -> float | None:
        row = self.row(table, key)
        return None if row is None else row.p50

    def as_json(self) -> dict[str, Any]:
        held = asdict(self)
        for part in held["parts"]:
            for table in part["tables"]:
                del table["since"]
        return held

    @staticmethod
    def from_json(held: Any) -> Run:
        return TypeAdapter(Run).validate_python(held)


def _short(value: float) -> float:
    """Four significant digits: no more is known, and the file stays small."""
    return float(f"{value:.4g}")


# -- as text -------------------------------------------------------------------------------------------------------


def shown(value: float | None, unit: str = "") -> str:
    """A figure as people read it: three digits, or what stands before the point."""
    if value is None:
        return "–"
    digits = 0 if abs(value) >= 100 else 1 if abs(value) >= 10 else 2
    text = f"{value:,.{digits}f}"
    return f"{text} {unit}" if unit else text


def times(ratio: float) -> str:
    """A ratio as the documents quote it: `93`, `3.2`, `0.85`."""
    return (
        f"{ratio:,.0f}"
        if ratio >= 10
        else f"{ratio:.1f}"
        if ratio >= 2
        else f"{ratio:.2f}"
        if ratio >= 0.1
        else f"{ratio:.1g}"
    )


def cell(value: object) -> str:
    """What stands in a table: figures grouped by thousands, a dash for nothing."""
    return "–" if value is None else f"{value:,}" if isinstance(value, int | float) else str(value)


def plain(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A table for a terminal: the first column to the left, the others to the right."""
    texts = [[cell(value) for value in row] for row in (columns, *rows)]
    widths = [max(len(row[at]) for row in texts) for at in range(len(columns))]
    return "\n".join(
        "  ".join(
            value.rjust(width) if at else value.ljust(width)
            for at, (value, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in texts
    )


def grid(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A Markdown table. What would end a cell is escaped."""
    lines = ["| " + " | ".join(columns) + " |", "|" + "---|" * len(columns)]
    lines += [
        "| " + " | ".join(str(cell).replace("|", "\\|").replace("\n", " ") for cell in row) + " |" for row in rows
    ]
    return "\n".join(lines)


def markdown(table: Table, depth: int = 3) -> str:
    """A table with its heading."""
    base = table.row(table.base) if table.base is not None else None
    counted = any(row.n > 1 for row in table.rows)
    tails = any(row.p99 is not None for row in table.rows)
    columns = ["way", f"p50, {table.unit}" if counted else table.unit]
    columns += ["p99"] if tails else []
    columns += ["most", "values"] if counted else []
    columns += [] if base is None else [f"times {base.way}"]
    noted = any(row.note for row in table.rows)
    columns += ["note"] if noted else []
    lines: list[list[str]] = []
    for row in table.rows:
        cells = [row.way, shown(row.p50)]
        cells += [shown(row.p99)] if tails else []
        cells += [shown(row.most), str(row.n) if row.n else "–"] if counted else []
        if base is not None:
            cells.append(times(row.p50 / base.p50) if row.p50 is not None and base.p50 else "–")
        cells += [row.note] if noted else []
        lines.append(cells)
    about = f"{table.about}\n\n" if table.about else ""
    return f"{'#' * depth} {table.title}\n\n{about}{grid(columns, lines)}\n"
