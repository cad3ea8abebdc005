"""The noun of `llm-mcp-hub doctor`: one thing that was looked at, how it is, and the one next step. Pure."""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from llm_mcp_hub.errors import HubError

State = Literal["ok", "warning", "blocks"]
AGAIN = "llm-mcp-hub doctor"

_NAMED = re.compile(r"[A-Z][A-Z0-9]*_[A-Z0-9_]*[A-Z0-9]|`[^`]+`|: \S")
"""A variable, a command in backticks, or what follows `Run:` and the like."""


@dataclass(frozen=True, slots=True)
class Finding:
    """What one look has shown.

    Attributes:
        name: what was looked at, the same in every run: programs go by it.
        state: `blocks` where an ask would fail, `warning` where it would not, or nobody can tell.
        message: how it is. Never a token, an e-mail address or the value of a secret variable.
        action: the one next step, with a command or a variable; only what is `ok` may have none.
    """

    name: str
    state: State
    message: str
    action: str = ""

    def __post_init__(self) -> None:
        if self.state != "ok" and not self.action:
            raise ValueError(f"{self.name} {self.state} without a next step")


def ok(name: str, message: str, action: str = "") -> Finding:
    """All is well there."""
    return Finding(name, "ok", message, action)


def warns(name: str, message: str, action: str) -> Finding:
    """Asks work, or nobody can tell; the owner should know."""
    return Finding(name, "warning", message, action)


def blocks(name: str, message: str, action: str) -> Finding:
    """An ask would fail."""
    return Finding(name, "blocks", message, action)


Look = AsyncGenerator[Finding] | Callable[[], Sequence[Finding]]
"""What yields findings as it goes, or returns them and may take its time with folders and files."""


def told(name: str, error: HubError, state: State = "blocks") -> Finding:
    """What an ask would be told, as a finding."""
    return Finding(name, state, error.message, step(error.action))


def step(action: str) -> str:
    """A next step in the doctor's words: one that names nothing to type gets the doctor's own command."""
    return action if _NAMED.search(action) else f"{action.rstrip('.')}, then run: {AGAIN}"


def foreign(name: str, around: Mapping[str, str], wanted: re.Pattern[str]) -> Finding:
    """Variables of these names in the owner's environment. Asks never see them; whoever set them may not know."""
    found = sorted(variable for variable, value in around.items() if value and wanted.fullmatch(variable))
    if not found:
        return ok(name, "no variable is set that could pay by use or lead elsewhere")
    return warns(
        name,
        f"{', '.join(found)}: could make other programs pay by use or go elsewhere; the hub's asks never see "
        f"{'it' if len(found) == 1 else 'them'}",
        f"Unless something else needs {'it' if len(found) == 1 else 'them'}, run: unset {' '.join(found)}",
    )
