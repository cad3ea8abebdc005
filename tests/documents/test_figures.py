"""What the documents say of speed and size is what the last run of `make bench` said, and that run is not stale."""

from __future__ import annotations

import re
from xml.etree import ElementTree

import pytest

from benchmarks.machine import pinned
from benchmarks.page import TITLES, page
from benchmarks.picture import GROUND, INK
from benchmarks.result import Run, Table, markdown
from benchmarks.verdicts import quotes
from scripts.figures import HEADINGS, RESULTS, documents, latest, requoted
from tests.documents.pages import table
from tests.documents.test_screenshots import contrast
from tests.harness import ROOT

README = (ROOT / "README.md").read_text("utf-8")
RUN = latest()


def section() -> str:
    """What the README says of speed."""
    start = README.index(HEADINGS[ROOT / "README.md"])
    return README[start : README.index("\n## ", start + 1)]


def test_every_document_is_what_the_last_run_renders() -> None:
    """`make figures` writes them again; what was changed by hand there is told here."""
    stale = [file.name for file, text in documents().items() if file.read_text("utf-8") != text]

    assert stale == []


def test_the_last_run_measured_what_the_tree_has() -> None:
    """Another hub, SDK, CLI or bridge has other figures: `make bench`, then `make figures`."""
    assert RUN.pinned == pinned()


def test_the_last_run_is_a_whole_one() -> None:
    """Every part and all its rounds: what fails in a run is mended, not published."""
    assert RUN.ran_on["quick"] is False
    assert [part.key for part in RUN.parts] == list(TITLES)
    assert [part.key for part in RUN.parts if part.failed or not part.tables] == []


def test_the_readme_quotes_ratios_and_no_times() -> None:
    """A millisecond is of the machine that measured it; and each ratio is found on the page with its row."""
    quoted = table(section(), "what", "compared")
    told = dict(table((ROOT / "docs" / "figures.md").read_text("utf-8"), "what", "times"))

    assert re.findall(r"\d\s?(?:ms|s|MB|KB|seconds)\b", section()) == []
    assert len(quoted) == len(quotes(RUN)) == len(told)
    for (_, says), figures in zip(quoted, told.values(), strict=True):
        assert [figure for figure in figures.split(", ") if not re.search(rf"(?<![\d.]){figure}(?![\d.])", says)] == []


def test_a_readme_with_another_row_is_no_match_for_the_run() -> None:
    """A ratio that came into the row of another one would be a lie that nobody sees."""
    rows = section().splitlines()
    short = README.replace(rows[-2] + "\n", "")

    with pytest.raises(ValueError, match="rows"):
        requoted(short, HEADINGS[ROOT / "README.md"], RUN)


def test_a_row_that_could_not_be_measured_says_why() -> None:
    """In a table with figures, and without a ratio; nothing is guessed."""
    shown = Table("t", "A title", "ms", base="floor")
    shown.add("floor", "the floor", [2.0, 4.0, 6.0])
    shown.add("slow", "slow", [40.0, 40.0])
    shown.add("none", "none", note="fails: a | b")

    assert table(markdown(shown), "way", "p50, ms", "most", "values", "times the floor", "note") == [
        ["the floor", "4.00", "6.00", "3", "1.00", ""],
        ["slow", "40.0", "40.0", "2", "10", ""],
        ["none", "–", "–", "–", "–", "fails: a | b"],
    ]


def test_what_a_drill_wrote_beside_the_run_is_on_the_page() -> None:
    """Its title, summary and rows."""
    held = {"title": "A drill", "ran_on": {"cores": 2}, "columns": ["fault", "survived"], "rows": [["kill", "20/20"]]}

    text = page(RUN, {"drill": {**held, "summary": "All of them."}})

    assert ["kill", "20/20"] in table(text, "fault", "survived")
    assert "All of them." in text


def test_a_run_comes_back_from_its_file_as_it_was() -> None:
    """What is rendered tomorrow is what was measured today."""
    assert Run.from_json(RUN.as_json()) == RUN


def test_the_picture_can_be_read_on_any_page_and_fetches_nothing() -> None:
    """It has a ground of its own, far enough from its letters."""
    picture = (RESULTS / "asks.svg").read_text("utf-8")

    assert {element.tag.rpartition("}")[2] for element in ElementTree.fromstring(picture).iter()} == {
        "svg",
        "title",
        "rect",
        "text",
    }
    assert re.findall(r"href|url\(|@import", picture) == []
    assert contrast(INK, GROUND) >= 4.5
