"""Claude's credentials: the setup-token that asks use, and Claude Code's own login, which is only reported.

A setup-token (`claude setup-token`) is opaque, lives one year, and is printed once; its clock is the operator's or the
hub's own, never the token's. Claude Code's own login is never used: its refresh token is single-use, so a copy or a
race would log the owner out.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast

from llm_mcp_hub.credentials.status import (
    USABLE,
    Credential,
    Evidence,
    TokenStatus,
    by_clock,
    days_between,
    local,
    mark,
    utc,
)
from llm_mcp_hub.errors import AuthMissing, BillingBlocked, HubError, Misconfigured

NAME = "claude"
LIFETIME = timedelta(days=365)
PREFIX = "sk-ant-oat01-"
SHORTEST = 85
"""Characters. A token copied from a terminal of 80 columns is cut to 79 or 80; a whole one has more than 90."""
GET_ONE = "Run `claude setup-token` and set CLAUDE_CODE_OAUTH_TOKEN to the token it prints."

_FORM = re.compile(r"[A-Za-z0-9_-]+")
_SPACE = re.compile(r"\s+")


def checked(raw: str) -> str:
    """The token without the white space that terminals and editors put inside. Raises HubError when it is none."""
    token = _SPACE.sub("", raw).strip("\"'")
    if "sk-ant-api" in token:  # also behind a token: a file may hold both
        raise BillingBlocked(
            "CLAUDE_CODE_OAUTH_TOKEN holds an API key; API keys bill by use, so nothing was sent.",
            action=GET_ONE,
            provider=NAME,
        )
    if not token.startswith(PREFIX) or not _FORM.fullmatch(token):
        raise Misconfigured(
            f"CLAUDE_CODE_OAUTH_TOKEN does not hold a setup-token (those begin with {PREFIX}).",
            action=GET_ONE,
            provider=NAME,
        )
    if len(token) < SHORTEST:
        raise Misconfigured(
            f"The token in CLAUDE_CODE_OAUTH_TOKEN is cut off ({len(token)} characters): terminals wrap it.",
            action="Copy the whole token again, over all its lines.",
            provider=NAME,
        )
    return token


class ClaudeCredentials:
    """Reads what there is, at every question anew."""

    def __init__(
        self,
        *,
        token: str | None,
        issued_at: datetime | None,
        alert: timedelta,
        own_login: Path,
        now: Callable[[], datetime],
    ) -> None:
        """
        Args:
            token: the variable's value as it is, None when unset.
            issued_at: when the operator says the token was made.
            alert: how long before the deadline to warn.
            own_login: Claude Code's own credentials file, only reported.
            now: the clock.
        """
        self._raw = token
        self._issued_at = issued_at
        self._alert = alert
        self._own_login = own_login
        self._now = now

    def token(self) -> str:
        """The token for an ask. Raises AuthMissing, BillingBlocked or Misconfigured."""
        if not self._raw:
            raise AuthMissing("There is no Claude token for the hub.", action=GET_ONE, provider=NAME)
        return checked(self._raw)

    def mark(self) -> str:
        """The token's name in the store; empty where there is none."""
        return mark(self._raw) if self._raw else ""

    def status(self) -> TokenStatus:
        """What is known of the token without using it."""
        now = self._now()
        if not self._raw:
            return self._without_token(now)
        setup_token = Credential(kind="setup_token", source="env")
        try:
            checked(self._raw)
        except HubError as error:
            return TokenStatus(
                status="misconfigured",
                usable=False,
                expires_at=None,
                days_remaining=None,
                message=error.message,
                action=error.action,
                expires_source="none",
                credential=setup_token,
                evidence=Evidence(level="present", source="CLAUDE_CODE_OAUTH_TOKEN", observed_at=utc(now)),
            )
        if self._issued_at is None:
            return TokenStatus(
                status="valid",
                usable=True,
                expires_at=None,
                days_remaining=None,
                message="A setup-token is set and well-formed; it lives one year from its making, and the token does "
                "not tell when that was.",
                action="Set CLAUDE_TOKEN_ISSUED_AT to the day it was made, for a warning before it ends.",
                expires_source="none",
                credential=setup_token,
                evidence=Evidence(level="well_formed", source="CLAUDE_CODE_OAUTH_TOKEN", observed_at=utc(now)),
            )
        expires = self._issued_at + LIFETIME
        state = by_clock(now, expires, self._alert)
        said = {"expired": "The setup-token has ended", "warning": "The setup-token ends soon"}
        return TokenStatus(
            status=state,
            usable=state in USABLE,
            expires_at=utc(expires),
            days_remaining=days_between(now, expires),
            message=f"{said.get(state, 'The setup-token is set')}: {local(now, expires)} (by CLAUDE_TOKEN_ISSUED_AT).",
            action="" if state == "valid" else GET_ONE,
            expires_source="operator",
            credential=setup_token,
            evidence=Evidence(level="clock", source="CLAUDE_TOKEN_ISSUED_AT", observed_at=utc(now)),
        )

    def _without_token(self, now: datetime) -> TokenStatus:
        found = self._own()
        message = "There is no Claude token for the hub."
        if found is not None:
            message += " Claude Code's own login is on this machine; the hub reports it and never uses it, because a "
            message += "second user of its single-use refresh token would log its owner out."
        return TokenStatus(
            status="missing",
            usable=False,
            expires_at=None,
            days_remaining=None,
            message=message,
            action=GET_ONE,
            expires_source="none",
            credential=found,
            evidence=Evidence(level="present", source=str(self._own_login), observed_at=utc(now)) if found else None,
        )

    def _own(self) -> Credential | None:
        try:
            held = json.loads(self._own_login.read_text("utf-8"))
            login = cast("dict[str, Any]", held["claudeAiOauth"])
            if not login.get("accessToken"):
                return None  # blanked by the CLI after a refused refresh
            ends = login.get("expiresAt")
            access = utc(datetime.fromtimestamp(ends / 1000, UTC)) if isinstance(ends, int | float) and ends else None
        except (OSError, ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError):
            return None
        return Credential(kind="login", source="file", access_expires_at=access)
