"""What a login's status is, and how it is said: nouns and words. Pure, clocks passed in, no provider known.

A status counts to the moment when a person must act, never to the end of an access token that renews itself.
"""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime, timedelta
from typing import Literal

from llm_mcp_hub.conversation import Noun, QuotaWindow

State = Literal["valid", "warning", "expired", "rejected", "missing", "ineligible", "misconfigured", "unknown"]
ExpiresSource = Literal["ledger", "operator", "file", "first_seen", "none"]
Level = Literal["present", "well_formed", "clock", "proven"]
USABLE: frozenset[State] = frozenset({"valid", "warning", "unknown"})


class Credential(Noun):
    """Which credential is meant and where it was found."""

    kind: Literal["setup_token", "login"]
    source: Literal["env", "saved", "file", "keychain"]
    access_expires_at: str | None = None


class Evidence(Noun):
    """How the status is known, and since when."""

    level: Level
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
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def days_between(now: datetime, then: datetime) -> int:
    """Whole days left, never negative."""
    return max(0, int((then - now).total_seconds() // 86_400))


def local(now: datetime, then: datetime) -> str:
    """A deadline as a person reads it: `Sunday 29 Nov 2026 14:03 KST, 2 days`, in this machine's zone."""
    days = days_between(now, then)
    left = f"{days} day{'' if days == 1 else 's'}" if then > now else "past"
    return f"{local_moment(then)}, {left}"


def local_moment(then: datetime) -> str:
    """A moment as a person reads it, in this machine's zone."""
    here = then.astimezone()
    return f"{here:%A} {here.day} {here:%b %Y %H:%M %Z}"  # Windows has no form for a day without its zero


def spoken(seconds: float) -> str:
    """A length of time as a person says it: `7 days`, `16 hours`."""
    for unit, size in (("day", 86_400), ("hour", 3600)):
        count = round(seconds / size)
        if seconds >= 1.5 * size:
            return f"{count} {unit}s"
    return "an hour" if seconds >= 3600 else "less than an hour"


def by_clock(now: datetime, expires: datetime, alert: timedelta, slack: timedelta = timedelta(0)) -> State:
    """What a known deadline alone says. `slack`: how much later than `expires` it may really be."""
    if expires + slack <= now:
        return "expired"
    return "warning" if expires - now <= alert else "valid"


def mark(secret: str) -> str:
    """A name for a credential that does not tell it: the same for the same one, in every hub."""
    return hashlib.sha256(b"llm-mcp-hub " + secret.encode("utf-8", "surrogatepass")).hexdigest()[:16]
