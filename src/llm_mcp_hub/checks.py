"""What an ask must be before anything is done for it. No I/O: values in, an `Ask` with an id of chance or an
InvalidRequest out, which never quotes what was given."""

from __future__ import annotations

import secrets

from llm_mcp_hub.conversation import PROMPT_LIMIT, Ask
from llm_mcp_hub.errors import InvalidRequest
from llm_mcp_hub.providers.base import Traits


def checked(
    traits: Traits,
    prompt: str,
    *,
    principal: str,
    model: str | None,
    system: str | None,
    conversation_id: str | None,
    effort: str | None,
    timeout_s: float,
    arrived: float,
) -> Ask:
    """An ask of which every part has been checked. Raises InvalidRequest."""
    provider = traits.name
    _check_text("prompt", prompt, required=True, provider=provider)
    if system is not None:
        _check_text("system", system, required=False, provider=provider)
    wanted = model or traits.default_model
    if not traits.accepts(wanted):
        raise InvalidRequest(
            f"model is no model name of {traits.title}.", action=f"Give {traits.model_hint}.", provider=provider
        )
    if effort is not None and effort not in traits.efforts:
        raise InvalidRequest(
            f"{traits.title} takes no effort of that name."
            if traits.efforts
            else f"{traits.title} takes no effort through its CLI.",
            action=f"Use one of: {', '.join(traits.efforts)}." if traits.efforts else "Leave effort out.",
            provider=provider,
        )
    if not 1 <= timeout_s <= 3600:
        raise InvalidRequest(
            "timeout_s is not between 1 and 3600.", action="Give 1 to 3600 seconds.", provider=provider
        )
    return Ask(
        ask_id=f"ask_{secrets.token_urlsafe(18)}",
        provider=provider,
        prompt=prompt,
        model=wanted,
        system=system or None,
        timeout_s=timeout_s,
        principal=principal,
        conversation_id=conversation_id or "",
        effort=effort,
        arrived=arrived,
    )


def _check_text(name: str, text: str, *, required: bool, provider: str) -> None:
    """Refuse what could not reach the model as it is; never quote it."""
    # JavaScript, in which both CLIs are written, counts U+FEFF as white space: Claude's would answer it by itself.
    if required and not text.replace("\ufeff", "").strip():
        raise InvalidRequest(f"{name} is blank.", action=f"Give a {name} with text in it.", provider=provider)
    if len(text) > PROMPT_LIMIT:
        raise InvalidRequest(
            f"{name} has {len(text):,} characters; the limit is {PROMPT_LIMIT:,}.",
            action=f"Shorten the {name}.",
            provider=provider,
        )
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise InvalidRequest(
            f"{name} holds half of a character (a lone surrogate) at position {error.start}, which no encoding can "
            "carry.",
            action="Remove it, or send the whole character.",
            provider=provider,
        ) from None


def check_size(ask: Ask, traits: Traits) -> None:
    """Refuse what would be more than the provider takes, before it does: it would say so late, or not at all."""
    earlier = sum(turn.size for turn in ask.history)
    size = len(ask.prompt) + len(ask.system or "") + sum(part.size for part in ask.parts) + earlier
    if size > traits.context_chars:
        raise InvalidRequest(
            f"Together with {'the earlier turns and ' if earlier else ''}what is put before the prompt this is "
            f"{size:,} characters; {traits.title} takes {traits.context_chars:,}.",
            action="Begin a new conversation with what matters of this one." if earlier else "Send less.",
            provider=ask.provider,
        )
