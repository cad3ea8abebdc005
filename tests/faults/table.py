"""What a fault is, and what came of one: nouns of the drill, and no fault itself.

Each fault is a name, what strikes, and what whoever asked must be told: a code of `errors.py`, or one of the other
words below. The five groups are in the modules of their names; `faults.py` puts them into one list.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from llm_mcp_hub.errors import CODES

if TYPE_CHECKING:
    from tests.faults.stage import Stage

Group = Literal["child", "credential", "store", "http", "host"]
GROUPS: tuple[Group, ...] = ("child", "credential", "store", "http", "host")
By = Literal["real", "scripted", "injected"]
"""How it strikes. `real`: at the real CLIs, by signals, files, limits of the system or what a provider says.
`scripted`: `fake_child.py` stands in a CLI's place. `injected`: the hub's own process is told by a system call what a
system in trouble would tell it."""

ANSWERED, LOST, REFUSED = "answered", "connection lost", "refused"
STATUSES = frozenset(f"HTTP {number}" for number in (200, 202, 400, 401, 403, 404, 408, 413, 421))
OTHER_WORDS = frozenset({ANSWERED, LOST, REFUSED, "detached", "kept", *STATUSES})
"""What is told beside the codes: an answer; a connection that ended without one; a start that was refused; an ask that
goes on without its caller; an ask whose record the next hub has; and statuses of HTTP."""
WORDS = OTHER_WORDS | set(CODES)

Got = dict[str, str]
"""Who asked, and what they were told."""
Strike = Callable[["Stage"], AbstractContextManager[Got]]
"""Strikes, has somebody ask, and gives what they got; when it is left, the fault is over."""


@dataclass(frozen=True)
class Fault:
    """One row. `expected`: by who asked, what they must be told; more than one word where each is right."""

    name: str
    group: Group
    stage: str
    """Which hub it strikes: see `stage.py`."""
    strike: Strike
    expected: Mapping[str, str | tuple[str, ...]]
    by: By = "real"
    outage: Mapping[str, str | tuple[str, ...]] = field(default_factory=dict[str, str | tuple[str, ...]])
    """Logins that do not work while it lasts, and the word that token_status must have for it. All others work."""

    def words(self, who: str) -> tuple[str, ...]:
        """What this one may be told."""
        expected = self.expected[who]
        return (expected,) if isinstance(expected, str) else expected


@dataclass
class Row:
    """What came of a fault in one round."""

    fault: Fault
    got: Got = field(default_factory=Got)
    next_ask: str = ""
    orphans: list[str] = field(default_factory=list[str])
    leaks: list[str] = field(default_factory=list[str])
    false_outages: list[str] = field(default_factory=list[str])
    missed_outages: list[str] = field(default_factory=list[str])
    broke: str = ""
    """What the drill itself met, where it could not go on."""
    seconds: float = 0.0

    @property
    def as_expected(self) -> bool:
        """Whether everybody was told what they must be told."""
        wanted = self.fault.expected
        return self.got.keys() == wanted.keys() and all(self.got[who] in self.fault.words(who) for who in wanted)

    @property
    def survived(self) -> bool:
        """Whether all four looks found what they must find."""
        wrong = (self.broke, self.orphans, self.leaks, self.false_outages, self.missed_outages)
        return self.as_expected and self.next_ask == ANSWERED and not any(wrong)
