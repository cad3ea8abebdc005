"""Every target, in the order of the table."""

from __future__ import annotations

from dataclasses import replace

from tests.fuzz import callers, claude_says, gemini_says, logins, served, stored, texts
from tests.fuzz.engine import Target
from tests.fuzz.found import FOUND

ROOMS = (gemini_says, claude_says, logins, texts, stored, callers, served)


def targets() -> list[Target]:
    """All of them, what has broken them once first among their seeds."""
    every = [target for room in ROOMS for target in room.targets()]
    assert FOUND.keys() <= {target.name for target in every}
    return [replace(target, seeds=[*FOUND.get(target.name, ()), *target.seeds]) for target in every]
