"""What Claude's CLI says in one turn, as ours: messages in, events, an answer or a coded error out.

Pure: no I/O, no child, and the time is handed in. The table of errors was measured on CLI 2.1.330 against a stand-in of
the API; the order in which it is read matters and stands in `_error`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, cast

from llm_mcp_hub.conversation import Ask, Billing, QuotaWindow, StopReason, Usage, whole
from llm_mcp_hub.errors import (
    AuthRejected,
    BillingBlocked,
    HubError,
    InvalidRequest,
    ModelUnavailable,
    PermissionDenied,
    QuotaExhausted,
    RateLimited,
    Refused,
    Timeout,
    UpstreamError,
)
from llm_mcp_hub.providers.base import Alive, Event, Finished, Restarted, Text

if TYPE_CHECKING:
    from claude_agent_sdk import AssistantMessage, RateLimitEvent, ResultMessage

NAME = "claude"
ALIASES = ("sonnet", "opus", "haiku", "fable")
LOGIN_ACTION = "Run `llm-mcp-hub login claude`."

_NO_CONNECTION = re.compile(r"ECONNREFUSED|ENOTFOUND|EAI_AGAIN|EHOSTUNREACH|ENETUNREACH")
"""The CLI's own words, where nobody was there to connect to."""
_CLIS_OWN = "<synthetic>"
"""The model of messages that the CLI makes up."""


def iso(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


class Turn:
    """What one turn has shown so far: messages in, events and one result or error out. No I/O."""

    def __init__(self, ask: Ask, clock: Callable[[], float]) -> None:
        """`clock` gives the seconds since 1970: resets are moments."""
        self._ask = ask
        self._clock = clock
        self._kept = ""
        self._streamed = ""
        self._streaming: str | None = None
        self._unstreamed = ""
        self._repeating: str | None = None
        self._cut_by_length = False
        self.model: str | None = None
        self.failed_as: str | None = None
        self.quota: tuple[QuotaWindow, ...] = ()
        self.overage: bool | None = None
        self.resets_at: float | None = None
        self._rejected_window: str | None = None

    @property
    def text(self) -> str:
        return self._kept + (self._unstreamed or self._streamed)

    def streamed(self, raw: object) -> list[Event]:
        """One raw event of the Messages API."""
        event = _mapping(raw)
        kind = event.get("type")
        if kind == "message_start":
            message = _part(event, "message")
            self.model = whole(_word(message, "model")) or self.model
            self._streaming, self._repeating = message.get("id"), None
            return self._begun()
        if kind == "content_block_delta":
            delta = _part(event, "delta")
            piece = _word(delta, "text")
            if delta.get("type") == "text_delta" and piece:
                self._streamed += piece
                return [Text(piece)]
        elif kind == "message_delta":
            self._cut_by_length = _part(event, "delta").get("stop_reason") == "max_tokens"
        return [Alive()]

    def said(self, message: AssistantMessage) -> list[Event]:
        """A block of the answer that has ended. It matters where the CLI repeated a request without streaming it."""
        from claude_agent_sdk import TextBlock

        if message.error is not None:
            self.failed_as = _text(message.error)
            return [Alive()]
        self.model = self.model or whole(_text(message.model)) or None
        if message.message_id == self._streaming or message.model == _CLIS_OWN:
            return [Alive()]
        events: list[Event] = []
        if message.message_id != self._repeating:
            self._repeating = message.message_id
            events = self._begun()
        text = "".join(_text(block.text) for block in message.content if isinstance(block, TextBlock))
        self._unstreamed += text
        return [*events, Text(text)] if text else events or [Alive()]

    def _begun(self) -> list[Event]:
        """Another message begins: it goes on where the length limit cut, or voids what this part had so far."""
        voided = "" if self._cut_by_length else self._unstreamed or self._streamed
        if self._cut_by_length:
            self._kept = self.text
        self._streamed, self._unstreamed, self._cut_by_length = "", "", False
        if not voided:
            return [Alive()]
        return [Restarted(), Text(self._kept)] if self._kept else [Restarted()]

    def limited(self, event: RateLimitEvent) -> None:
        """What the subscription's windows say; rides on every ask for free."""
        info = event.rate_limit_info
        raw = _mapping(info.raw)
        now = iso(self._clock())
        windows = _part(raw, "unifiedWindows")
        self.quota = tuple(
            QuotaWindow(
                window=whole(name),
                used_fraction=_number(_part(windows, name).get("utilization")),
                resets_at=iso(reset) if (reset := _moment(_part(windows, name).get("resetsAt"))) else None,
                observed_at=now,
            )
            for name in windows
        )
        # The first is the CLI's own conclusion (window rejected, overage allowed), the second the provider's word.
        self.overage = bool(raw.get("isUsingOverage") or raw.get("overageInUse"))
        self.resets_at = _moment(info.resets_at) or self.resets_at
        # A plain 429 also says `rejected`, but names no window: only a named one means that the quota is gone.
        if info.status == "rejected" and _text(info.rate_limit_type):
            self._rejected_window = whole(_text(info.rate_limit_type))

    def result(self, message: ResultMessage) -> Finished:
        """The end of the turn. Raises the coded error of a failed one."""
        if message.is_error:
            raise self._error(message)
        # Not `result` where there is anything better: it is the text of the last block alone, and an answer that was
        # thought over in between has more of them.
        text = self._kept + (self._unstreamed or self._streamed or _text(message.result))
        if not text.strip():
            raise UpstreamError("Claude answered with no text.", action="Ask again.", provider=NAME)
        usage = _mapping(message.usage)
        served = self.model or whole(next(iter(_mapping(message.model_usage)), "")) or None
        if served is None:  # as it does with a prompt that it takes for blank
            raise _invalid("Claude's CLI answered this by itself and sent nothing to a model.", "Change the prompt.")
        warnings: list[str] = []
        asked = self._ask.model
        if asked not in ALIASES and served != asked:
            warnings.append(f"asked for {asked}, Claude's CLI used {served}")
        if self.overage:
            warnings.append("this answer was paid as extra usage, not by the subscription")
        return Finished(
            text=text,
            model=served,
            model_source="served",
            stop_reason=_stop_reason(_text(message.stop_reason)),
            usage=Usage(
                input_tokens=_count(usage, "input_tokens") or 0,
                output_tokens=_count(usage, "output_tokens") or 0,
                cached_input_tokens=_count(usage, "cache_read_input_tokens"),
            ),
            billing=Billing(source="overage", evidence="event")
            if self.overage
            else Billing(source="subscription", evidence="handshake"),
            warnings=tuple(warnings),
        )

    def _error(self, message: ResultMessage) -> HubError:
        """Claude's failures as ours. Order (measured): a used-up window, how the turn ended, kind and HTTP status."""
        status = _count({"status": message.api_error_status}, "status")
        kind, why = self.failed_as, _text(message.terminal_reason)
        errors = message.errors if isinstance(message.errors, list) else []
        said = _text(message.result) or " ".join(map(_text, errors))
        partial = self.text or None
        if self._rejected_window is not None and (status == 429 or kind == "rate_limit"):
            reset = self.resets_at
            return QuotaExhausted(
                f"Claude's {_window(self._rejected_window)} limit of this subscription is used up"
                + (f" until {iso(reset)}." if reset else "."),
                # Opus alone has a window of its own: the other models still answer.
                action=f"Ask with another model ({_others('opus')}), or again after the reset."
                if self._rejected_window.endswith("_opus")
                else "Ask again after the reset.",
                provider=NAME,
                retry_after_s=max(0, round(reset - self._clock())) if reset else None,
                partial_text=partial,
                only_model=self._rejected_window.endswith("_opus"),
            )
        if message.stop_reason == "refusal":
            return Refused("Claude declined to answer this.", action="Put the question differently.", provider=NAME)
        if message.subtype == "error_max_turns" or why == "max_turns":
            return UpstreamError(
                "Claude tried to use a tool instead of answering; the hub gives it none.",
                action="Ask again and ask for an answer in text only.",
                provider=NAME,
                partial_text=partial,
            )
        if why in {"blocking_limit", "prompt_too_long"}:
            return _invalid("The prompt is longer than Claude takes.", "Shorten the prompt.")
        if kind == "oauth_org_not_allowed":
            return PermissionDenied(
                "The organisation of this Claude account does not allow Claude Code.",
                action="Ask the organisation's administrator to allow Claude Code for this account.",
                provider=NAME,
            )
        if kind == "authentication_failed" or status in {401, 403} or (status is None and "Not logged in" in said):
            return AuthRejected("Claude refused the token.", action=LOGIN_ACTION, provider=NAME)
        if kind == "billing_error":
            return BillingBlocked(
                "Claude answered that a credit balance is too low: this account would pay by credit, not by a "
                "subscription.",
                action="Run `llm-mcp-hub login claude` with an account that has a Claude subscription.",
                provider=NAME,
                shows="refused",
            )
        if kind == "rate_limit" or status == 429:
            return RateLimited(
                "Claude is limiting requests for the moment (not the subscription's limit).",
                action="Try again in half a minute.",
                provider=NAME,
                retry_after_s=30,
                partial_text=partial,
                transient=True,
            )
        if kind == "model_not_found" or status == 404:
            return ModelUnavailable(
                f"Claude does not offer the model {self._ask.model}.",
                action=f"Use one of: {_others(self._ask.model)}.",
                provider=NAME,
            )
        if kind == "max_output_tokens":
            return UpstreamError(
                "Claude's answer hit its length limit again and again.",
                action="Ask for a shorter answer; the text so far is attached.",
                provider=NAME,
                partial_text=partial,
            )
        if status == 413:
            return _invalid("The request is larger than Claude takes.", "Shorten the prompt.")
        if status is not None and 400 <= status < 500:
            return _invalid("Claude refused the request as it is.", "Change the prompt or the model.")
        if status == 529:
            return UpstreamError(
                "Claude is overloaded.",
                action="Try again in a minute.",
                provider=NAME,
                retry_after_s=60,
                partial_text=partial,
                transient=True,
            )
        if status is None and "timed out" in said.lower():  # with a status it is the API's text, which may quote us
            return Timeout("Claude did not answer in time.", action="Try again.", provider=NAME, partial_text=partial)
        if status is not None:
            failed = f"Claude failed (HTTP {status})."
        elif kind == "server_error":
            away = _NO_CONNECTION.search(said) is not None
            failed = "Claude could not be reached." if away else "The connection to Claude broke."
        else:
            failed = "Claude's answer could not be read."
        unheard = status is None and kind == "server_error"
        return UpstreamError(
            failed,
            action="Check the network and HTTPS_PROXY, then try again." if unheard else "Try again.",
            provider=NAME,
            partial_text=partial,
            transient=status is not None or kind == "server_error",
            shows="unreachable" if unheard else None,
        )


# The SDK passes on what the CLI wrote without looking at it, and a CLI gone wrong must not end an ask in an exception.


def _mapping(value: object) -> Mapping[str, Any]:
    return cast("Mapping[str, Any]", value) if isinstance(value, Mapping) else {}


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _part(value: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    return _mapping(value.get(name))


def _word(value: Mapping[str, Any], name: str) -> str:
    return _text(value.get(name))


def _count(value: Mapping[str, Any], name: str) -> int | None:
    count = value.get(name)
    return max(0, count) if isinstance(count, int) else None


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) and abs(value) < 1e15 else None


def _moment(value: object) -> float | None:
    """Seconds since 1970, of a day that a calendar can show."""
    seconds = _number(value)
    return seconds if seconds is not None and 0 < seconds < 1e11 else None


def _invalid(message: str, action: str) -> InvalidRequest:
    return InvalidRequest(message, action=action, provider=NAME)


def _others(model: str) -> str:
    return ", ".join(alias for alias in ALIASES if alias != model)


def _window(name: str) -> str:
    return {"five_hour": "5-hour", "seven_day": "weekly", "seven_day_opus": "weekly Opus"}.get(
        name, name.replace("_", " ")
    )


def _stop_reason(given: str) -> StopReason:
    if given in {"end_turn", "stop_sequence"}:
        return "end_turn"
    if given == "max_tokens":
        return "max_tokens"
    return "refusal" if given == "refusal" else "unknown"
