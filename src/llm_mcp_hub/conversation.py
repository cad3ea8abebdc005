"""The nouns: what is asked and what is answered. Frozen, no I/O, no provider known by name."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Annotated, Any, Literal, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

StopReason = Literal["end_turn", "max_tokens", "refusal", "unknown"]
ModelSource = Literal["served", "requested"]
BillingSource = Literal["subscription", "overage", "unknown"]

PROMPT_LIMIT = 1_000_000
"""Longest prompt, in characters (Unicode code points)."""
OWNER = "owner"
"""The principal of who has a hub for himself: stdio, the shell, HTTP without client tokens. Every other one is one of
some."""


def whole(text: str) -> str:
    """`text` with whole characters only: two halves that meet become one, a lone half becomes U+FFFD.

    JSON can carry half of a character (`"\\ud83d"`), no encoding can: written as it is, it would end the hub.
    """
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return text


class Characters:
    """Whole characters out of pieces that may have been cut in the middle of one."""

    def __init__(self) -> None:
        self._half = ""

    def joined(self, piece: str) -> str:
        """What `piece` completes. The first half of a character is kept for the next piece."""
        text, self._half = self._half + piece, ""
        if "\ud800" <= text[-1:] <= "\udbff":
            text, self._half = text[:-1], text[-1]
        return whole(text)


class Noun(BaseModel):
    """A value that crosses the hub's border: frozen, and nothing unknown in it."""

    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_bytes="base64", val_json_bytes="base64")


Unshown = Annotated[str, Field(repr=False)]
"""Words that were asked or answered: in no `repr`, for whatever shows one."""
UnshownIfAny = Annotated[str | None, Field(repr=False)]
Seconds = Annotated[float, Field(ge=0, le=2e11, allow_inf_nan=False)]
"""Since 1970, or a length of time; whatever is added to it within reason, calendars can still show it (year 8307)."""


def _with_zone(text: str) -> str:
    if datetime.fromisoformat(text).tzinfo is None:
        raise ValueError("says nothing of its zone")
    return text


Moment = Annotated[str, AfterValidator(_with_zone)]
"""ISO 8601 with its zone."""


class _Failure(Noun):
    code: str
    message: str
    action: str
    retryable: bool = False
    retry_after_s: Annotated[float | None, Field(ge=0, le=1e12, allow_inf_nan=False)] = None
    provider: str | None = None
    ask_id: str | None = None


def _as_errors_are(details: dict[str, Any]) -> dict[str, Any]:
    return _Failure.model_validate(details).model_dump(exclude_unset=True)


ErrorDetails = Annotated[dict[str, Any], AfterValidator(_as_errors_are)]
"""What `HubError.details` has told, without a text that had come."""

N = TypeVar("N", bound=Noun)


def read(kind: type[N], value: bytes | None) -> N | None:
    """A noun out of the store; None for what is not there, or cannot be read: others can write there too."""
    if value is None:
        return None
    try:
        return kind.model_validate_json(value)
    except ValidationError:
        return None


class Part(Noun):
    """Something that is put before a prompt: a file, a diff, an attachment. Either text or data."""

    model_config = ConfigDict(defer_build=False)  # threads make these, and the first two at once would build it twice

    name: str
    """As the caller called it: a path, or an attachment's name."""
    mime_type: str
    text: UnshownIfAny = None
    data: bytes | None = Field(default=None, repr=False)

    @property
    def shown(self) -> str:
        """A text part as the model sees it: fenced by lines that name it."""
        body = self.text or ""
        return f"--- {self.name} ---\n{body}{'' if body.endswith(chr(10)) else chr(10)}--- end of {self.name} ---\n\n"

    @property
    def size(self) -> int:
        """What it adds to a request, in characters; data counts a tenth, as providers weigh pictures by their area."""
        return len(self.text) if self.text is not None else len(self.data or b"") // 10


class Exchange(Noun):
    """One completed turn of a conversation: what was asked and what came back."""

    ask_id: str
    provider: str
    model: str
    prompt: Unshown
    parts: tuple[Part, ...] = ()
    answer: Unshown
    at: str
    """ISO 8601, UTC."""

    @property
    def size(self) -> int:
        """Characters that this turn adds to every later request."""
        return len(self.prompt) + len(self.answer) + sum(part.size for part in self.parts)


@dataclass(frozen=True, slots=True)
class Ask:
    """One question on its way to one provider.

    Attributes:
        ask_id: the hub's name for it, unguessable.
        provider: the key of the provider's entry in the provider table.
        prompt: sent character for character.
        model: full name or alias, already checked against the provider's pattern.
        system: instruction for the conversation, or None.
        timeout_s: seconds from arrival until the whole answer must be there, waiting included.
        principal: who asks: `owner`, or `client:NAME`.
        conversation_id: the conversation that this is a turn of; a new one has an id of its own from the start.
        parts: what is put before the prompt.
        effort: `low`, `medium`, `high`, or None for the model's own.
        history: the conversation's earlier turns, oldest first.
        may_ask: providers that its caller may ask; None: all.
        arrived: when it came, by `time.monotonic()`: its time counts from then.
    """

    ask_id: str
    provider: str
    prompt: str = field(repr=False)
    model: str
    system: str | None = field(repr=False)
    timeout_s: float
    principal: str = OWNER
    conversation_id: str = ""
    parts: tuple[Part, ...] = ()
    effort: str | None = None
    history: tuple[Exchange, ...] = ()
    may_ask: frozenset[str] | None = None
    arrived: float = 0.0

    @property
    def ends_at(self) -> float:
        """By when its whole answer must be there, by the same clock."""
        return self.arrived + self.timeout_s


class Usage(Noun):
    """Model tokens of one answer, as the provider counted them."""

    input_tokens: int
    output_tokens: int
    cached_input_tokens: int | None = None
    thinking_tokens: int | None = None


class Billing(Noun):
    """Who paid, and how that is known."""

    source: BillingSource
    evidence: str
    """`handshake`: the CLI named the login before it got the prompt. `fuse`: no other way to pay is left open.
    `event`: the provider's own rate-limit event said so."""


class QuotaWindow(Noun):
    """What is used of one of the subscription's windows."""

    window: str
    used_fraction: float | None
    """0.0 to 1.0, None when the provider did not say."""
    resets_at: str | None
    """ISO 8601, UTC."""
    observed_at: str


class Answer(Noun):
    """A whole answer. `model_source` says whether the provider named the model or we only know what was asked for."""

    ask_id: str
    status: Literal["completed", "working"]
    provider: str
    model: str
    model_source: ModelSource
    text: str
    conversation_id: str | None
    stop_reason: StopReason
    usage: Usage
    duration_ms: int
    first_text_ms: int | None
    billing: Billing
    warnings: tuple[str, ...] = ()
