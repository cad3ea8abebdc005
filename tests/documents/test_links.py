"""Every link inside the project leads somewhere: to a file that is kept, and to a heading that is there."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from urllib.parse import unquote

import pytest

from tests.documents.pages import anchors, kept_files, links, named, pages
from tests.harness import ROOT


@cache
def anchors_of(page: Path) -> set[str]:
    return anchors(page.read_text("utf-8"))


@pytest.mark.parametrize("page", pages(), ids=named)
def test_every_link_leads_to_a_kept_file_and_to_a_heading_in_it(page: Path) -> None:
    """A document that was moved, a heading that was changed and a file that was left out take their links along."""
    kept = {file.resolve() for file in kept_files()}
    astray: list[str] = []
    for link in links(page.read_text("utf-8")):
        if re.match(r"[a-z]+:", link):
            continue
        path, _, fragment = unquote(link).partition("#")
        target = (page.parent / path).resolve() if path else page.resolve()
        if target not in kept and not (target.is_dir() and any(target in file.parents for file in kept)):
            astray.append(f"{link}: no such file")
        elif fragment and fragment not in anchors_of(target):
            astray.append(f"{link}: no such heading")

    assert astray == []


def test_every_page_below_docs_is_linked_from_the_readme() -> None:
    """What is linked from nowhere is read by nobody."""
    linked = {link.partition("#")[0] for link in links((ROOT / "README.md").read_text("utf-8"))}

    assert {
        file.relative_to(ROOT).as_posix() for file in kept_files() if file.parent == ROOT / "docs"
    } - linked == set()


def test_every_test_that_a_document_names_is_there() -> None:
    """SECURITY.md says of each promise where it is tested."""
    files = {file.name for file in kept_files()}
    lost: list[str] = []
    count = 0
    for page in (ROOT / "SECURITY.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))):
        for name in re.findall(r"`((?:tests/[\w/.-]+)|(?:test_\w+\.py))`", page.read_text("utf-8")):
            count += 1
            if not ((ROOT / name).exists() if "/" in name else name in files):
                lost.append(f"{named(page)}: {name}")

    assert count > 20
    assert lost == []
