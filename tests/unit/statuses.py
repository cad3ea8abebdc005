"""Statuses of logins as values, for tests of what is made of them."""

from __future__ import annotations

from typing import Any

from llm_mcp_hub.credentials.status import USABLE, State, TokenStatus


def status(state: State = "valid", **changes: Any) -> TokenStatus:
    """The status of a login of which little is known."""
    found = TokenStatus(
        status=state,
        usable=state in USABLE,
        expires_at=None,
        days_remaining=None,
        message="made up",
        action="",
        expires_source="none",
        credential=None,
        evidence=None,
    )
    return found.model_copy(update=changes)
