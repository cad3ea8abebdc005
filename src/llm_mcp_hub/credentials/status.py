"""What a login's status is, as values: pure, clocks passed in, no file and no provider known.

A status counts to the moment when a person must act, never to the end of an access token that renews itself.
"""

from __future__ import annotations

import hashlib
from datetime import datetime, timedelta
from typing import Literal

from llm_mcp_hub.conversation import Noun, QuotaWindow

State = Literal["valid", "warning", "expired", "rejected", "missing", "ineligible", "misconfigured", "unknown"]
ExpiresSource = Literal["ledger", "operator", "file", "first_seen", "none"]
USABLE: frozenset[State] = frozenset({"valid", "warning", "unknown"})


class Credential(Noun):
    """Which credential is meant and where it was found."""

    kind: Literal["setup_token", "login"]
    source: Literal["env", "saved", "file", "keychain"]
    access_expires_at: str | None = None


class Evidence(Noun):
    """How the status is known, and since when."""

    level: Literal["present", "well_formed", "clock", "proven"]
    source: str
    observed_at: str


class LastError(Noun):
    """The last coded error that said something about the credential."""

    code: str
    at: str


class TokenStatus(Noun):
    """One provider's login. `message` says it for people, `action` is the one next step ("" when there is none)."""

    status: State
    usable: bool
    expires_at: str | None
    days_remaining: int | None
    message: str
    action: str
    expires_source: ExpiresSource
    credential: Credential | None
    evidence: Evidence | None
    quota: tuple[QuotaWindow, ...] = ()
    last_success_at: str | None = None
    last_error: LastError | None = None


def utc(moment: datetime) -> str:
    """ISO 8601 in UTC, to the second. `moment` must know its zone."""
    from datetime import UTC

    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def days_between(now: datetime, then: datetime) -> int:
    """Whole days left, never negative."""
    return max(0, int((then - now).total_seconds() // 86_400))


def local(now: datetime, then: datetime) -> str:
    """A deadline as a person reads it: `Sunday 29 Nov 2026 14:03 KST, 2 days`, in this machine's zone."""
    shown = then.astimezone()
    days = days_between(now, then)
    left = f"{days} day{'' if days == 1 else 's'}" if then > now else "past"
    return f"{shown:%A %-d %b %Y %H:%M %Z}, {left}"


def by_clock(now: datetime, expires: datetime, alert: timedelta) -> State:
    """What a known deadline alone says."""
    if expires <= now:
        return "expired"
    return "warning" if expires - now <= alert else "valid"


def mark(secret: str) -> str:
    """A name for a credential that does not tell it: the same for the same one, in every hub."""
    return hashlib.sha256(b"llm-mcp-hub " + secret.encode("utf-8", "surrogatepass")).hexdigest()[:16]
