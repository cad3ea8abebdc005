"""A child's words on a terminal, as text: escapes gone, nothing lost between two pieces. With real children."""

from __future__ import annotations

import asyncio
import os
import re
import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import pytest

from llm_mcp_hub.children.dialogue import MOST, Dialogue
from llm_mcp_hub.children.terminal import Terminal

pytestmark = pytest.mark.anyio
DEADLINE_S = 60.0

DRESSED = "\x1b[?25l\x1b[2J\x1b[H\x1b]0;a title\x07\x1b[38;5;246mGrüße\x1b[39m,\x1b[9Gto\x1b[12Gall\r\n".encode()
LINKED = b"\x1b]8;id=1;https://hidden.invalid\x1b\\https://shown.invalid\x1b]8;;\x07 \x1b(B\x1b7\x1b[>4;?mend\r\n"


@contextmanager
def saying(tmp_path: Path, *pieces: bytes, times: int = 1) -> Generator[Dialogue]:
    """A child that writes these pieces, one after the other, and ends."""
    script = f"import os\nfor piece in {list(pieces)!r} * {times}:\n    os.write(1, piece)\n"
    terminal = Terminal.spawn(
        [sys.executable, "-c", script],
        environment={"PATH": os.environ["PATH"]},
        cwd=tmp_path,
        stderr=tmp_path / "stderr",
    )
    try:
        yield Dialogue(terminal)
    finally:
        terminal.kill()


async def until(dialogue: Dialogue, *wanted: str) -> str | None:
    """What was found, None at the child's end; no test may hang."""
    async with asyncio.timeout(DEADLINE_S):
        found = await dialogue.until(*(re.compile(pattern) for pattern in wanted))
    return found[0] if found else None


@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
async def test_colours_titles_and_links_are_not_text(tmp_path: Path, size: int) -> None:
    """However the bytes come: an escape, or a character, may be cut anywhere."""
    whole = DRESSED + LINKED
    pieces = [whole[at : at + size] for at in range(0, len(whole), size)]
    with saying(tmp_path, *pieces) as dialogue:
        assert await until(dialogue, r"Grüße,\s+to\s+all\r\n") is not None
        assert await until(dialogue, r"\Ahttps://shown\.invalid end\r\n") is not None
        assert await until(dialogue, "hidden") is None


async def test_what_was_waited_for_is_done_with(tmp_path: Path) -> None:
    """The same question may come again; the first one must not be taken for the second."""
    with saying(tmp_path, b"Name? ", b"Name? done") as dialogue:
        assert await until(dialogue, r"Name\?") == "Name?"
        assert await until(dialogue, r"Name\?") == "Name?"
        assert await until(dialogue, r"Name\?") is None
        assert dialogue.text.strip() == "done"


async def test_the_pattern_that_shows_first_is_the_one(tmp_path: Path) -> None:
    """Whatever the order in which they are named."""
    with saying(tmp_path, b"one two three") as dialogue:
        assert await until(dialogue, "three", "two", "one") == "one"
        assert await until(dialogue, "three", "two", "one") == "two"


async def test_a_wait_that_is_cancelled_loses_nothing(tmp_path: Path) -> None:
    """A person may answer while the child is being listened to."""
    with saying(tmp_path, b"first ", b"second") as dialogue:
        assert await until(dialogue, "first") == "first"
        waiting = asyncio.ensure_future(dialogue.until(re.compile("never")))
        await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)

        assert await until(dialogue, "second") == "second"


async def test_a_child_that_writes_without_end_costs_no_memory(tmp_path: Path) -> None:
    """Only the newest of what nobody waits for is kept."""
    with saying(tmp_path, b"x" * 4096, times=200) as dialogue:
        assert await until(dialogue, "never") is None
        assert len(dialogue.text) == MOST < 200 * 4096
