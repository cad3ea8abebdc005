"""The seam: what the hub needs of a provider, and all it may know of one.

A provider takes an `Ask` and yields events; the last one is `Finished`, or a `HubError` is raised. It knows nothing
of MCP, of queues, deadlines, stores or of other providers. Closing the stream early (a cancel, a deadline) must leave
the provider quiet: upstream request closed, no child busy with it.

An ask brings its conversation's earlier turns, whoever answered them. A provider may keep the vendor's session of a
conversation alive and go on in it, but only where that session has seen exactly these turns.
"""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field
from typing import Protocol

from llm_mcp_hub.conversation import Ask, Billing, ModelSource, QuotaWindow, StopReason, Usage
from llm_mcp_hub.errors import HubError


@dataclass(frozen=True, slots=True)
class Alive:
    """Something came from upstream that is no text: it feeds the idle timer."""


@dataclass(frozen=True, slots=True)
class Text:
    """A further piece of the answer."""

    piece: str


@dataclass(frozen=True, slots=True)
class Restarted:
    """The CLI began the answer anew: what was streamed so far is void."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What the provider says is used of the subscription's windows. It may come before an error, too."""

    windows: tuple[QuotaWindow, ...]
    blocks: HubError | None = None
    """What further asks meet by that until its `retry_after_s` has passed, also where this one gets no answer."""


@dataclass(frozen=True, slots=True)
class Finished:
    """The whole answer as the provider ended it; `text` is final, whatever was streamed."""

    text: str
    model: str
    model_source: ModelSource
    stop_reason: StopReason
    usage: Usage
    billing: Billing
    warnings: tuple[str, ...] = field(default=())
    blocks: HubError | None = None
    """What further asks meet until its `retry_after_s` has passed: this answer has shown a limit."""


Event = Alive | Text | Restarted | Limits | Finished


@dataclass(frozen=True, slots=True)
class Traits:
    """What the outer rooms show of a provider: the tools, their schemas and descriptions are derived from this.

    Attributes:
        name: key in the provider table and end of the tool's name (`claude` gives `ask_claude`).
        title: for people.
        spends: the subscription that an ask draws on, for the tool's description.
        default_model: what an ask without a model gets.
        aliases: short names of models that the CLI resolves itself.
        model_pattern: full names look like this; anything else is refused before a CLI is started.
        model_hint: one line for the schema.
        context_chars: what a request may hold in all, so that the hub refuses before the provider does.
        efforts: the values of `effort` that it takes.
        takes: kinds of data, as MIME types, that it takes beside text.
    """

    name: str
    title: str
    spends: str
    default_model: str
    aliases: tuple[str, ...]
    model_pattern: re.Pattern[str]
    model_hint: str
    context_chars: int = 3_000_000
    efforts: tuple[str, ...] = ()
    takes: tuple[str, ...] = ()

    def accepts(self, model: str) -> bool:
        """Whether `model` is an alias or a full name of this provider's pattern."""
        return model in self.aliases or self.model_pattern.fullmatch(model) is not None


class Provider(Protocol):
    """One provider, as the hub sees it."""

    @property
    def traits(self) -> Traits: ...

    def ask(self, ask: Ask) -> AsyncGenerator[Event]:
        """Put one question. Yields events, the last is `Finished`. Raises HubError."""
        ...

    async def warm(self) -> HubError | None:
        """Start what makes the next ask fast. Raises nothing: what stopped it is returned, and told at the ask."""
        ...

    async def close(self) -> None:
        """Let go of every child. May be called twice; asks may follow and start anew."""
        ...

    def kill(self) -> None:
        """Send SIGKILL to every child, now and without awaiting: the last resort at exit."""
        ...
