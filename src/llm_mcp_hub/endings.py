"""What an ask ends with that gets no answer through no fault of its provider, and how its caller is told."""

from __future__ import annotations

import math
from collections.abc import Sequence

from llm_mcp_hub.conversation import Ask, whole
from llm_mcp_hub.errors import Busy, Cancelled, HubError, Internal


def told(error: HubError, ask: Ask, ask_id: str | None, others: Sequence[str]) -> HubError:
    """The error as the caller gets it: a new one, for asks that wait for the same start of a CLI share theirs.

    `others`: providers whose logins are usable, the way out that needs nobody, where this caller may take it.
    """
    way_out = ""
    hopeless = error.code in {"invalid_request", "cancelled", "not_found", "internal", "store_unavailable"}
    tools = [f"ask_{name}" for name in others if ask.may_ask is None or name in ask.may_ask]
    if tools and not hopeless and tools[0] not in error.action:
        same = " with the same conversation_id" if ask.conversation_id and ask.history else ""
        way_out = f" Or use {' or '.join(tools)}{same}."
    new = type(error)(
        error.message,
        action=error.action + way_out,
        provider=error.provider or ask.provider,
        retry_after_s=error.retry_after_s,
        partial_text=error.partial_text and whole(error.partial_text),
        ask_id=ask_id,
        retryable=error.retryable,
    )
    new.shows = error.shows
    new.__cause__ = error
    return new


def stopped(ask: Ask) -> HubError:
    """What an ask ends with when its hub is stopped."""
    return Internal(
        "The hub was stopped before the answer was whole.",
        action="Ask again; what had come is kept.",
        provider=ask.provider,
        retryable=True,
    )


def closing(ask: Ask, seconds: float) -> HubError:
    """What an ask meets that comes when its hub is about to end; `seconds`: until it has ended at the latest."""
    return Busy(
        "This hub is being stopped and takes no new asks.",
        action=f"Ask again in {math.ceil(seconds)} s, or at once at another hub.",
        provider=ask.provider,
        retry_after_s=float(math.ceil(seconds)),
    )


def cancelled(ask: Ask) -> HubError:
    """What a cancelled ask ends with."""
    return Cancelled("This ask was cancelled.", action="Ask again if you still want an answer.", provider=ask.provider)
