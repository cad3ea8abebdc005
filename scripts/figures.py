"""Writes what the documents say of figures, from the last run: docs/figures.md, its picture, the README's ratios.

Without arguments they are written; with `--check` they are compared, and the exit code is 1 where one is stale. In the
README the n-th row of the table below "How fast" has the ratios of the run's n-th quote, in both languages; only its
numbers are changed. What the drills, the soak and the fuzz write beside the run is on the page too.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks.machine import changed_since, pinned  # noqa: E402 - after the path is set
from benchmarks.page import page  # noqa: E402
from benchmarks.picture import picture  # noqa: E402
from benchmarks.result import Run  # noqa: E402
from benchmarks.verdicts import quotes  # noqa: E402
from benchmarks.written import RESULTS, latest, records  # noqa: E402
from scripts.translated import SOURCE, TRANSLATION, brought_over, stale  # noqa: E402

HEADINGS = {SOURCE: "## How fast", TRANSLATION: "## 얼마나 빠른가"}
ROW = re.compile(r"^\|(?P<what>.*)\|(?P<says>[^|]*)\|$", re.MULTILINE)
NUMBER = re.compile(r"`[^`]*`|(?P<number>\d[\d.,]*\d|\d)")


def requoted(text: str, heading: str, run: Run) -> str:
    """A README with the run's ratios in its table. Raises ValueError where the table is not as long as the quotes."""
    start = text.index(heading)
    end = text.index("\n## ", start + 1)
    section, wanted = text[start:end], quotes(run)
    rows = list(ROW.finditer(section))[2:]  # after the header and its line
    if len(rows) != len(wanted):
        raise ValueError(f"{heading}: {len(rows)} rows, {len(wanted)} quotes")
    for row, quote in reversed(list(zip(rows, wanted, strict=True))):
        says = _with_numbers(row["says"], quote.figures)
        section = section[: row.start("says")] + says + section[row.end("says") :]
    return text[:start] + section + text[end:]


def _with_numbers(says: str, figures: list[str]) -> str:
    left: Iterator[str] = iter(figures)
    have = sum(1 for found in NUMBER.finditer(says) if found["number"])
    if have != len(figures):
        raise ValueError(f"{len(figures)} ratios, and {have} numbers in: {says.strip()}")
    return NUMBER.sub(lambda found: next(left) if found["number"] else found[0], says)


def documents() -> dict[Path, str]:
    """Every file that is made of the run, as it should be."""
    run = latest()
    english, korean = SOURCE.read_text("utf-8"), TRANSLATION.read_text("utf-8")
    current = not stale(english, korean)
    wanted = {
        ROOT / "docs" / "figures.md": page(run, records()),
        RESULTS / "asks.svg": picture(run),
        SOURCE: requoted(english, HEADINGS[SOURCE], run),
        TRANSLATION: requoted(korean, HEADINGS[TRANSLATION], run),
    }
    if current:  # numbers alone have changed, in both: the translation stays one
        wanted[TRANSLATION] = brought_over(wanted[SOURCE], wanted[TRANSLATION])
    return wanted


def main() -> int:
    """Write or check. Returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 where something is stale")
    check = parser.parse_args().check
    wanted = documents()
    old = [file for file, text in wanted.items() if not file.is_file() or file.read_text("utf-8") != text]
    for file in old:
        print(f"{'stale' if check else 'written'}: {file.relative_to(ROOT)}")
    if check:
        if other := {name: version for name, version in pinned().items() if latest().pinned.get(name) != version}:
            print(f"the run is of other versions than the tree has now: {other}")
        of = str(latest().ran_on["commit"]).split()[0]
        print(f"since the run, at {of}, files of src/ that have changed: {changed_since(of, 'src')}")
        return int(bool(old or other))
    for file, text in wanted.items():
        file.write_text(text, "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
