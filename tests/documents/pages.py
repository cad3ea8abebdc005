"""The project's documents as a reader's program sees them: blocks, headings, links, anchors, tables.

Parsed by markdown-it, so that what stands inside a code block is no link and what a parser does not take for a block
is none. It knows nothing of what a document says.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from markdown_it import MarkdownIt
from markdown_it.token import Token

from tests.harness import DEADLINE_S, ROOT

_PARSER = MarkdownIt("commonmark").enable("table")


@dataclass(frozen=True)
class Block:
    """A fenced block: the word behind its fence, and what is in it."""

    language: str
    text: str
    line: int


@dataclass(frozen=True)
class Section:
    """A heading with what stands below it, up to the next heading of any depth."""

    depth: int
    heading: str
    source: str
    """Its own text as it is written, the heading included."""


@cache
def kept_files() -> tuple[Path, ...]:
    """Every file that git keeps, or would keep if it were added."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        check=True,
    )
    found = [ROOT / name for name in listed.stdout.split("\0") if name]
    return tuple(file for file in found if file.is_file())


def pages() -> tuple[Path, ...]:
    """Every document."""
    return tuple(file for file in kept_files() if file.suffix == ".md")


def named(page: Path) -> str:
    """A document by its path in the project."""
    return page.relative_to(ROOT).as_posix()


def parsed(text: str) -> list[Token]:
    """What markdown-it makes of a text."""
    return _PARSER.parse(text)


def flat(tokens: list[Token]) -> Iterator[Token]:
    """Every token, those within a line included."""
    for token in tokens:
        yield token
        yield from flat(token.children or [])


def blocks(page: Path) -> list[Block]:
    """Every code block of a document, those in lists too."""
    return [
        Block(token.info.strip(), token.content, (token.map or [0])[0] + 1)
        for token in parsed(page.read_text("utf-8"))
        if token.type in {"fence", "code_block"}
    ]


def links(text: str) -> list[str]:
    """Where every link and picture of a text leads."""
    found: list[str] = []
    for token in flat(parsed(text)):
        target = token.attrs.get("href") if token.type == "link_open" else token.attrs.get("src")
        if isinstance(target, str):
            found.append(target)
    return found


def spans(text: str) -> list[str]:
    """Every `code span` of a text."""
    return [token.content for token in flat(parsed(text)) if token.type == "code_inline"]


def sections(text: str) -> list[Section]:
    """A document cut at its headings. What stands before the first heading belongs to none."""
    lines = text.splitlines(keepends=True)
    tokens = parsed(text)
    heads = [
        (token.map[0], int(token.tag[1:]), tokens[number + 1].content)
        for number, token in enumerate(tokens)
        if token.type == "heading_open" and token.map is not None
    ]
    ends = [*(line for line, _, _ in heads[1:]), len(lines)]
    return [
        Section(depth, heading, "".join(lines[line:end]))
        for (line, depth, heading), end in zip(heads, ends, strict=True)
    ]


def anchors(text: str) -> set[str]:
    """What a `#fragment` may name in a document: GitHub's slugs of its headings."""
    seen: dict[str, int] = {}
    found: set[str] = set()
    for section in sections(text):
        plain = "".join(
            token.content for token in flat(parsed(section.heading)) if token.type in {"text", "code_inline"}
        )
        slug = re.sub(r"[^\w\- ]", "", plain.strip().lower()).replace(" ", "-")
        again = seen.get(slug, 0)
        seen[slug] = again + 1
        found.add(f"{slug}-{again}" if again else slug)
    return found


def table(text: str, *header: str) -> list[list[str]]:
    """The rows of every table of a text that has this header, as they are written."""
    rows: list[list[str]] = []
    inside = False
    row: list[str] = []
    for token in parsed(text):
        if token.type == "tr_open":
            row = []
        elif token.type == "inline" and token.level > 2:
            row.append(token.content)
        elif token.type == "tr_close":
            if row == list(header):
                inside = True
            elif inside:
                rows.append(row)
        elif token.type == "table_close":
            inside = False
    return rows
