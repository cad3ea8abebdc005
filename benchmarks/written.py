"""How a benchmark's figures are written down for whoever reads them later: one JSON file below `results/`.

It says with what they were measured, and nothing of whose machine that was: no host name and no path.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results"
OF_INTEREST = ("llm-mcp-hub", "mcp", "claude-agent-sdk", "uvicorn", "redis", "hypothesis")


def ran_on(*, seconds: float, seed: int) -> dict[str, Any]:
    """With what, on what kind of machine, how long, and from which seed."""
    cli = json.loads((ROOT / "gemini-cli" / "package.json").read_text("utf-8"))["dependencies"]["@google/gemini-cli"]
    return {
        "versions": {
            "python": platform.python_version(),
            **{name: version(name) for name in OF_INTEREST},
            "gemini-cli": cli,
        },
        "machine": {
            "system": platform.system(),
            "architecture": platform.machine(),
            "cores": os.cpu_count(),
            "load": [round(each, 1) for each in os.getloadavg()],
        },
        "commit": _commit(),
        "seconds": round(seconds, 1),
        "seed": seed,
    }


def _commit() -> str:
    """The commit that was measured; with a plus where the sources have been changed since."""

    def git(*words: str) -> str:
        return subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()

    try:
        changed = git("status", "--porcelain", "--", "src")
        return git("rev-parse", "--short=12", "HEAD") + ("+" if changed else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def write(
    name: str,
    title: str,
    columns: Sequence[str],
    rows: Sequence[Sequence[Any]],
    *,
    about: Mapping[str, Any],
    summary: Mapping[str, Any],
) -> Path:
    """Write `results/NAME.json`; a row has a value for each column."""
    assert all(len(row) == len(columns) for row in rows)
    RESULTS.mkdir(exist_ok=True)
    file = RESULTS / f"{name}.json"
    held = {"title": title, "ran_on": about, "columns": columns, "rows": rows, "summary": summary}
    file.write_text(json.dumps(held, indent=1, ensure_ascii=False) + "\n", "utf-8")
    return file


def table(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """The same for people: the first column to the left, figures to the right."""
    shown = [[_shown(value) for value in row] for row in (columns, *rows)]
    widths = [max(len(row[at]) for row in shown) for at in range(len(columns))]
    return "\n".join(
        "  ".join(
            value.rjust(width) if at else value.ljust(width)
            for at, (value, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in shown
    )


def _shown(value: Any) -> str:
    return f"{value:,}" if isinstance(value, int | float) else "" if value is None else str(value)
