"""README.ko.md says what README.md says: the same sections, code, names, links and numbers, of the same text."""

from __future__ import annotations

import re

import pytest

from scripts.translated import MARK, SOURCE, TRANSLATION, brought_over, mark_of, pairs, stale
from tests.documents.pages import Section, blocks, links, sections, spans

ENGLISH, KOREAN = SOURCE.read_text("utf-8"), TRANSLATION.read_text("utf-8")
PAIRS = list(zip(sections(ENGLISH), sections(KOREAN), strict=False))
"""As far as they go; a test says whether they correspond."""
EACH = pytest.mark.parametrize(("ours", "theirs"), PAIRS, ids=[ours.heading for ours, _ in PAIRS])
OTHER = {"README.md": "README.ko.md", "README.ko.md": "README.md"}


def plain(section: Section) -> str:
    """Its prose: no code, no links' targets, no marks, no comments."""
    text = re.sub(r"^```.*?^```", "", section.source, flags=re.MULTILINE | re.DOTALL)
    text = re.sub(r"`[^`]+`|<!--.*?-->|<[^ >]+>", " ", text)
    return re.sub(r"\]\([^)]*\)", "]", text)


def test_the_headings_correspond() -> None:
    """As many, and each of the same depth."""
    assert len(pairs(ENGLISH, KOREAN)) == len(PAIRS)


def test_every_section_is_a_translation_of_the_text_that_is_there_now() -> None:
    """Translate the sections that are named here, then run `make translated`."""
    assert stale(ENGLISH, KOREAN) == []


def test_the_code_blocks_are_the_same_in_the_same_order() -> None:
    """So what is executed of the one holds for the other; `make translated` takes them over."""
    theirs = [(block.language, block.text) for block in blocks(TRANSLATION)]

    assert theirs == [(block.language, block.text) for block in blocks(SOURCE)]


@EACH
def test_what_stands_in_code_spans_is_the_same(ours: Section, theirs: Section) -> None:
    """Commands, settings, codes and names are left as they are, and none is left out."""
    assert set(spans(theirs.source)) == set(spans(ours.source))


@EACH
def test_the_links_lead_to_the_same_places(ours: Section, theirs: Section) -> None:
    """But for the link from each of both to the other, and those to headings of their own."""
    there = {link for link in links(theirs.source) if not link.startswith("#")}

    assert there == {OTHER.get(link, link) for link in links(ours.source) if not link.startswith("#")}


@EACH
def test_the_numbers_are_the_same(ours: Section, theirs: Section) -> None:
    """Dates, versions, limits and measurements."""
    number = re.compile(r"\d[\d.,:-]*\d|\d")

    assert sorted(set(number.findall(plain(theirs)))) == sorted(set(number.findall(plain(ours))))


@EACH
def test_the_translation_is_korean(ours: Section, theirs: Section) -> None:
    """A section that was copied over is none."""
    words = re.findall(r"[A-Za-z]{2,}", plain(ours))

    assert len(words) < 8 or len(re.findall(r"[가-힣]", plain(theirs))) > len(words)


def test_a_changed_sentence_is_told_by_its_heading() -> None:
    """A word more in one section makes that one stale, and renewing the marks makes it current."""
    changed = ENGLISH.replace("# llm-mcp-hub\n", "# llm-mcp-hub\n\nOne more sentence.\n", 1)

    assert stale(changed, KOREAN) == ["llm-mcp-hub"]
    assert stale(changed, brought_over(changed, KOREAN)) == []


def test_a_mark_is_of_the_words_alone() -> None:
    """A line that was wrapped elsewhere and a screenshot that was taken again are no new text."""
    section = Section(2, "x", "## x\nOne\ntwo.\n```text\na\n```\n")

    assert mark_of(section) == mark_of(Section(2, "x", "## x\nOne two.\n```text\nb\n```\n"))
    assert MARK.findall(KOREAN)
