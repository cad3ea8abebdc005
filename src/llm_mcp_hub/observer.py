"""What a hub tells those who count and measure it. Nouns alone: nobody here knows who listens.

A listener returns at once, raises nothing, and gets no word of a prompt or an answer: an `Ask` holds one, so only its
provider, its ids and its model are for telling.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from llm_mcp_hub.conversation import Answer, Ask
from llm_mcp_hub.errors import HubError


@dataclass(frozen=True, slots=True)
class Ending:
    """How an accepted ask has ended: with an answer, or with an error. Times are from its arrival, in ms."""

    answer: Answer | None
    error: HubError | None
    duration_ms: int
    queue_ms: int | None = None
    """Until it had its place; None where it never had one."""
    first_text_ms: int | None = None


class Following(Protocol):
    """Follows one accepted ask to its end."""

    def tried_again(self, code: str) -> None:
        """It failed in passing, and is submitted anew."""
        ...

    def ended(self, ending: Ending) -> None: ...


class Observer(Protocol):
    """Is told of every ask."""

    def accepted(self, ask: Ask) -> Following:
        """Called in the context of the call that brought the ask."""
        ...

    def refused(self, provider: str, code: str) -> None:
        """An ask was not accepted. Neither word is a caller's."""
        ...


@dataclass(frozen=True, slots=True)
class Load:
    """How busy one provider's part of this hub is now."""

    running: int
    waiting: int
    places: int
    """How many may run at once, over all hubs on the store."""
    children: int = 0
    """Processes."""
    children_started: int = 0
    """Since the hub began."""


@dataclass(frozen=True, slots=True)
class HubState:
    """A hub as it is at one moment."""

    loads: Mapping[str, Load] = field(default_factory=dict[str, Load])
    store_up: bool = True
    draining: bool = False


@dataclass(frozen=True, slots=True)
class Traffic:
    """What is open over HTTP at one moment."""

    sessions: int = 0
    """Of the older era."""
    requests: int = 0
    streams: int = 0
