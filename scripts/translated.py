"""Marks README.ko.md as in line with README.md, section by section, after a person has made it so.

Below each of its headings stands which text of the English section it is a translation of:

    <!-- source: 3f2a91c07b12 -->

Without arguments the code blocks of README.md are taken over, the marks are renewed, and the sections whose marks have
changed are named: by that you say that they are translated. With `--check` nothing is written, and the exit code is 1
where a section's English text is no longer the one that was translated. Code blocks do not count for a mark: they are
the same in both.
"""

from __future__ import annotations

import argparse
import hashlib
import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from tests.documents.pages import Section, sections  # noqa: E402 - after the path is set

SOURCE, TRANSLATION = ROOT / "README.md", ROOT / "README.ko.md"
FENCED = re.compile(r"^```\w*\n.*?^```\n", re.MULTILINE | re.DOTALL)
MARK = re.compile(r"^<!-- source: (\w*) -->\n", re.MULTILINE)


def mark_of(section: Section) -> str:
    """What names the English text of a section: a hash of all but its code."""
    words = " ".join(FENCED.sub("```", section.source).split())
    return hashlib.sha256(words.encode()).hexdigest()[:12]


def pairs(source: str, translation: str) -> list[tuple[Section, Section]]:
    """The sections of both, one to one. Raises ValueError where their headings do not correspond."""
    ours, theirs = sections(source), sections(translation)
    for number, (our, their) in enumerate(zip(ours, theirs, strict=False)):
        if our.depth != their.depth:
            raise ValueError(f"heading {number + 1} is {our.heading!r} in one and {their.heading!r} in the other")
    if len(ours) != len(theirs):
        longer = (ours if len(ours) > len(theirs) else theirs)[min(len(ours), len(theirs)) :]
        raise ValueError(f"only one has: {', '.join(section.heading for section in longer)}")
    return list(zip(ours, theirs, strict=True))


def stale(source: str, translation: str) -> list[str]:
    """The headings of README.md whose text is not the one that was translated."""
    found: list[str] = []
    for our, their in pairs(source, translation):
        marks = MARK.findall(their.source)
        if marks != [mark_of(our)]:
            found.append(our.heading)
    return found


def brought_over(source: str, translation: str) -> str:
    """The translation with the code blocks and the marks of its source. Raises ValueError where a block is missing."""
    written: list[str] = []
    for our, their in pairs(source, translation):
        code = FENCED.findall(our.source)
        text = MARK.sub("", their.source)
        if len(FENCED.findall(text)) != len(code):
            raise ValueError(f"{our.heading}: {len(code)} code blocks here, another number in the translation")
        blocks = iter(code)
        text = FENCED.sub(lambda _, blocks=blocks: next(blocks), text)
        heading, _, rest = text.partition("\n")
        written.append(f"{heading}\n<!-- source: {mark_of(our)} -->\n{rest}")
    return "".join(written)


def main() -> int:
    """Renew or check the marks. Returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 where a section is stale")
    check = parser.parse_args().check
    source, translation = SOURCE.read_text("utf-8"), TRANSLATION.read_text("utf-8")
    try:
        changed, after = stale(source, translation), brought_over(source, translation)
    except ValueError as error:
        raise SystemExit(f"README.md and README.ko.md do not correspond: {error}") from error
    for heading in changed:
        print(f"{'to be translated' if check else 'now counts as translated'}: {heading}")
    if not check:
        TRANSLATION.write_text(after, "utf-8")
    return int(check and bool(changed))


if __name__ == "__main__":
    sys.exit(main())
