"""What runs leave behind for whoever reads it later: files below `results/`, and how they are read again."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.result import Run

RESULTS = Path(__file__).resolve().parent / "results"
LATEST = RESULTS / "latest.json"
RECORDS = ("drill", "soak", "soak_redis", "fuzz")
"""What stands beside a run, each the record of a whole drill, soak or fuzz."""


def keep(run: Run, file: Path = LATEST) -> None:
    """Write a run of the benchmarks."""
    _write(file, run.as_json())


def latest() -> Run:
    """The last full run."""
    return Run.from_json(json.loads(LATEST.read_text("utf-8")))


def record(
    name: str,
    title: str,
    columns: Sequence[str],
    rows: Sequence[Sequence[Any]],
    *,
    ran_on: Mapping[str, Any],
    summary: Mapping[str, Any],
) -> None:
    """Write one of the records; a row has a value for each column."""
    assert name in RECORDS, name
    assert all(len(row) == len(columns) for row in rows)
    held = {"title": title, "ran_on": ran_on, "columns": columns, "rows": rows, "summary": summary}
    _write(RESULTS / f"{name}.json", held)


def records() -> dict[str, Any]:
    """The records that there are."""
    files = [RESULTS / f"{name}.json" for name in RECORDS]
    return {file.stem: json.loads(file.read_text("utf-8")) for file in files if file.is_file()}


def _write(file: Path, held: Any) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(held, indent=1, ensure_ascii=False) + "\n", "utf-8")
