"""From what is held and what is known to a status: pure, no file, no store, no provider and no clock of its own.

The newest of what asks have shown beats what is older, and each of it beats a file: a file never hides a refusal, and
no clock outlives an answer.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from llm_mcp_hub.conversation import QuotaWindow
from llm_mcp_hub.credentials.known import NOTHING, Held, Known, Lasted, Reading
from llm_mcp_hub.credentials.status import (
    USABLE,
    Evidence,
    ExpiresSource,
    LastError,
    State,
    TokenStatus,
    by_clock,
    days_between,
    local,
    local_moment,
    spoken,
    utc,
)
from llm_mcp_hub.errors import HubError, encodable

TROUBLE_S = 900.0
"""How long a provider that could not be reached makes a status unknown; then only what else is known counts."""
LOGIN_CODES = frozenset({"auth_expired", "auth_rejected"})
"""Refusals of the login itself; every other one is of the account, or of a setting beside the login."""
_REFUSED: Mapping[str, State] = {
    "auth_expired": "expired",
    "auth_rejected": "rejected",
    "account_ineligible": "ineligible",
}
"""By error code; every other refusal is something that must be mended: `misconfigured`."""
_UNUSABLE: Mapping[str, State] = {"auth_missing": "missing", "auth_expired": "expired"}
"""What a reader's complaint makes of a status; every other one `misconfigured`."""


def choose(held: Sequence[Held], known: Mapping[str, Known], now: datetime, *, newest_first: bool) -> Held:
    """The login that an ask uses.

    Of those that may be used, the first, or with `newest_first` the one that came last; one that is known to be
    refused, or is over by its clock, only where there is no other.
    """
    for one in held:
        if one.firm and one.problem is not None and one.problem.code != "auth_missing":
            return one
    good = [one for one in held if one.problem is None]
    if not good:
        return next((one for one in held if one.problem and one.problem.code != "auth_missing"), held[0])

    def rank(place: int) -> tuple[bool, float, float, int]:
        one = good[place]
        seen = known.get(one.mark, NOTHING)
        refused = seen.refused
        dead = (refused is not None and refused.code in LOGIN_CODES) or _deadline(one, seen, now).over
        # It was there when its file was written, and when it was first seen: it is no younger than either.
        began = seen.issued_at or min((at for at in (seen.first_seen, one.since) if at), default=0.0)
        return (dead, -began, -one.since, place) if newest_first else (dead, 0.0, 0.0, place)

    return good[min(range(len(good)), key=rank)]


@dataclass(frozen=True, slots=True)
class _Deadline:
    """When a login ends. `refuted`: it has answered since, so that date is wrong."""

    at: datetime | None = None
    source: ExpiresSource = "none"
    slack: timedelta = timedelta(0)
    over: bool = False
    refuted: bool = False


def _deadline(held: Held, known: Known, now: datetime) -> _Deadline:
    if held.lifetime is None:
        return _Deadline()
    slack = timedelta(0)
    source: ExpiresSource = "first_seen"
    if known.issued_at is not None:
        began, source = _moment(known.issued_at), "ledger"
    elif held.issued is not None:
        (began, slack), source = held.issued, "ledger" if held.issued_by == "ledger" else "operator"
    elif known.first_seen is not None:
        began = _moment(known.first_seen)
    else:
        return _Deadline()
    at = began + held.lifetime
    over = at + slack <= now
    works = known.works
    if over and works is not None and known.refused is None and _moment(works.at) >= at + slack:
        return _Deadline(refuted=True)
    return _Deadline(at, source, slack, over)


def verdict(held: Held, known: Known, now: datetime, *, alert: timedelta, lasted: Sequence[Lasted] = ()) -> TokenStatus:
    """The status of a login.

    Args:
        held: as a reader found it now.
        known: what asks have shown of it.
        now: the clock, which knows its zone.
        alert: how long before a known end to warn.
        lasted: how long earlier logins of the account have lived.
    """
    if held.problem is not None:
        return _of_a_problem(held, held.problem, known, now)
    deadline = _deadline(held, known, now)
    refused = known.refused
    if refused is not None and refused.code not in LOGIN_CODES and refused.setting != held.setting:
        refused = None
    if refused is not None:
        return _of_a_refusal(held, known, refused, deadline, now)
    trouble = known.trouble
    troubled = trouble is not None and trouble.at >= known.newest and abs(now.timestamp() - trouble.at) < TROUBLE_S
    state = by_clock(now, deadline.at, alert, deadline.slack) if deadline.at is not None else "valid"
    if state == "valid" and troubled:
        state = "unknown"
    message, action = _told(held, known, deadline, state, now)
    if troubled and trouble is not None and state != "expired":
        message = f"{trouble.message} {message}"
        action = trouble.action if state == "unknown" else action
    message += _estimate(held, known, lasted, now)
    works = known.works if state in {"valid", "unknown"} else None
    return _status(
        state,
        held,
        known,
        now,
        message=message,
        action=action,
        deadline=deadline,
        evidence=_proof(works, now)
        if works is not None
        else Evidence(
            level="clock" if deadline.at is not None and deadline.source != "first_seen" else held.level,
            source=_source(held, deadline),
            observed_at=utc(now),
        ),
    )


def _of_a_problem(held: Held, problem: HubError, known: Known, now: datetime) -> TokenStatus:
    state = _UNUSABLE.get(problem.code, "misconfigured")
    return _status(
        state,
        held,
        known,
        now,
        message=f"{problem.message} {held.note}".strip(),
        action=problem.action,
        deadline=_Deadline(),
        evidence=None
        if held.credential is None
        else Evidence(level="present", source=held.source, observed_at=utc(now)),
    )


def _of_a_refusal(held: Held, known: Known, refused: Reading, deadline: _Deadline, now: datetime) -> TokenStatus:
    state = _REFUSED.get(refused.code, "misconfigured")
    message = refused.message
    if state == "rejected" and deadline.over and deadline.at is not None:
        state = "expired"
        message = f"{held.name} has ended: {local(now, deadline.at)}; the provider refuses it."
    return _status(
        state,
        held,
        known,
        now,
        message=f"{message} (Seen {local_moment(_seen(refused.at, now))}.) {held.note}".strip(),
        action=held.renew if state in {"expired", "rejected"} else refused.action,
        deadline=deadline,
        evidence=_proof(refused, now),
    )


def _told(held: Held, known: Known, deadline: _Deadline, state: State, now: datetime) -> tuple[str, str]:
    """What a status without a refusal says, and the next step."""
    worked = f" It last answered {local_moment(_seen(known.success.at, now))}." if known.success else ""
    if deadline.refuted:
        said = f"{held.name} works, though by its date it should have ended: the date is wrong."
        return f"{said}{worked} {held.note}".strip(), held.undated[1]
    if deadline.at is None or deadline.source == "first_seen":
        said = f"{held.undated[0]}{worked}"
        action = held.undated[1]
        if deadline.at is not None:
            first = local_moment(_moment(known.first_seen or 0.0))
            said += f" It was first seen {first}, so it ends {local_moment(deadline.at)} at the latest."
            action = held.renew if state != "valid" else action
        return f"{said} {held.note}".strip(), action
    by = {"operator": " (by the date you gave)", "ledger": " (by the day it was made)"}.get(deadline.source, "")
    beginning = {"expired": "has ended", "warning": "ends soon"}.get(state, "is good")
    if state == "warning" and deadline.at <= now:
        beginning = "ends today"
    said = f"{held.name} {beginning}: {local(now, deadline.at)}{by}.{worked} {held.note}".strip()
    return said, "" if state in {"valid", "unknown"} else held.renew


def _estimate(held: Held, known: Known, lasted: Sequence[Lasted], now: datetime) -> str:
    """What earlier logins of the account make one expect: a guess, so it moves no date."""
    if held.lifetime is not None or not lasted:
        return ""
    shortest = min(lasted, key=lambda one: one.seconds)
    began = known.issued_at or known.first_seen
    age = f"; this one is {spoken(now.timestamp() - began)} old" if began is not None else ""
    about = "about" if shortest.exact else "at least"
    return f" Earlier logins of this account lasted {about} {spoken(shortest.seconds)}{age}."


def _status(
    state: State,
    held: Held,
    known: Known,
    now: datetime,
    *,
    message: str,
    action: str,
    deadline: _Deadline,
    evidence: Evidence | None,
) -> TokenStatus:
    dated = deadline.at is not None and deadline.source != "first_seen"
    days: int | None = None
    if state in {"expired", "rejected"}:
        days = 0  # a person must act now
    elif deadline.at is not None and dated and state in USABLE:
        days = days_between(now, deadline.at)
    failures = [reading for reading in (known.refusal, known.trouble) if reading is not None]
    last = max(failures, key=lambda reading: reading.at, default=None)
    return TokenStatus(
        status=state,
        usable=state in USABLE,
        expires_at=utc(deadline.at) if deadline.at is not None else None,
        days_remaining=days,
        message=encodable(message),
        action=encodable(action),
        expires_source=deadline.source if deadline.at is not None else "none",
        credential=held.credential,
        evidence=None if evidence is None else evidence.model_copy(update={"source": encodable(evidence.source)}),
        quota=current(known.quota, now),
        last_success_at=utc(_seen(known.success.at, now)) if known.success is not None else None,
        last_error=LastError(code=last.code, at=utc(_seen(last.at, now))) if last is not None else None,
    )


def current(quota: Iterable[QuotaWindow], now: datetime) -> tuple[QuotaWindow, ...]:
    """The windows that still are what they were when they were seen: none that has begun anew since."""
    return tuple(window for window in quota if window.resets_at is None or window.resets_at > utc(now))


def _proof(reading: Reading, now: datetime) -> Evidence:
    return Evidence(level="proven", source="ask", observed_at=utc(_seen(reading.at, now)))


def _source(held: Held, deadline: _Deadline) -> str:
    return {"operator": held.issued_by, "ledger": "ledger"}.get(deadline.source, held.source)


def _moment(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)


def _seen(seconds: float, now: datetime) -> datetime:
    """When something was seen, for showing: another hub's clock may be ahead of ours."""
    return min(_moment(seconds), now)
