"""The table of a login's states: what is held, what asks have shown, what the clock says, and what that makes of it.

Each row is a moment in the life of a login. The scenarios in which a CLI decides are in `tests/guarantees`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_mcp_hub.conversation import QuotaWindow
from llm_mcp_hub.credentials.known import NOTHING, Held, Known, Lasted, Reading, merged
from llm_mcp_hub.credentials.status import USABLE, Credential, TokenStatus
from llm_mcp_hub.credentials.verdict import TROUBLE_S, choose, current, verdict
from llm_mcp_hub.errors import AuthExpired, AuthMissing, BillingBlocked, HubError, Misconfigured
from tests.unit.test_known import KNOWN

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
ALERT = timedelta(days=3)
DAY, YEAR, HOUR, MINUTE = timedelta(days=1), timedelta(days=365), timedelta(hours=1), timedelta(minutes=1)
RENEW = "Run: renew it"

TOKEN = Held(
    "The setup-token",
    Credential(kind="setup_token", source="env"),
    "THE_VARIABLE",
    RENEW,
    secret="made-up",
    mark="token",
    lifetime=YEAR,
    issued_by="THE_DATE",
    undated=("A setup-token is there.", "Set THE_DATE."),
)
LOGIN = Held(
    "The Google login",
    Credential(kind="login", source="file", access_expires_at="2026-11-23T13:00:00Z"),
    "/the/file",
    RENEW,
    secret="made-up",
    mark="login",
    level="clock",
    undated=("A Google login is there.", ""),
    setting="project-1",
)


def at(ago: timedelta = timedelta(0)) -> float:
    return (NOW - ago).timestamp()


def answered(ago: timedelta = HOUR) -> Known:
    return Known(success=Reading(at=at(ago)))


def accepted(ago: timedelta = HOUR) -> Known:
    said = Reading(at=at(ago), code="quota_exhausted", message="It is used up.", action="Wait.")
    return Known(accepted=said)


def refused(code: str, ago: timedelta = HOUR, setting: str = "") -> Known:
    said = Reading(at=at(ago), code=code, message="The provider refuses it.", action="Do this.", setting=setting)
    return Known(refusal=said)


def unreachable(ago: timedelta = MINUTE) -> Known:
    said = Reading(at=at(ago), code="upstream_error", message="It could not be reached.", action="Check the network.")
    return Known(trouble=said)


def dated(ago: timedelta, slack: timedelta = timedelta(0)) -> Held:
    return replace(TOKEN, issued=(NOW - ago, slack))


def made(ago: timedelta) -> Held:
    return replace(TOKEN, issued=(NOW - ago, timedelta(0)), issued_by="ledger")


def seen(ago: timedelta) -> Known:
    return Known(first_seen=at(ago))


def with_problem(held: Held, problem: HubError) -> Held:
    return replace(held, problem=problem, mark="", level="present")


@dataclass(frozen=True)
class Row:
    """What is held and known, and the status that it must make."""

    held: Held
    known: tuple[Known, ...]
    status: str
    days: int | None = None
    source: str = "none"
    level: str | None = "well_formed"
    says: str = ""
    action: str | None = None
    """None: it does not matter here."""


MISSING = with_problem(replace(LOGIN, credential=None), AuthMissing("There is none.", action="Log in."))

ROWS: dict[str, Row] = {
    # -- a setup-token and its clocks
    "a token that nobody has used": Row(TOKEN, (), "valid", says="A setup-token is there.", action="Set THE_DATE."),
    "seen for the first time": Row(TOKEN, (seen(DAY),), "valid", None, "first_seen", says="at the latest"),
    "seen a year ago but for two days": Row(
        TOKEN, (seen(YEAR - 2 * DAY),), "warning", None, "first_seen", says="at the latest", action=RENEW
    ),
    "seen more than a year ago": Row(TOKEN, (seen(YEAR + DAY),), "expired", 0, "first_seen", action=RENEW),
    "seen more than a year ago, and it answers": Row(
        TOKEN, (seen(YEAR + DAY), answered(HOUR)), "valid", None, "none", "proven", says="the date is wrong"
    ),
    "dated by its owner": Row(dated(10 * DAY), (), "valid", 355, "operator", "clock", action=""),
    "dated, four days before its end": Row(dated(YEAR - 4 * DAY), (), "valid", 4, "operator", "clock", action=""),
    "dated, three days before its end": Row(
        dated(YEAR - 3 * DAY), (), "warning", 3, "operator", "clock", says="ends soon", action=RENEW
    ),
    "dated, an hour before its end": Row(dated(YEAR - HOUR), (), "warning", 0, "operator", "clock", action=RENEW),
    "dated, over": Row(dated(YEAR), (), "expired", 0, "operator", "clock", says="has ended", action=RENEW),
    "dated to a day, on the day of its end": Row(
        dated(YEAR, 36 * HOUR), (), "warning", 0, "operator", "clock", says="ends today", action=RENEW
    ),
    "dated to a day, two days after": Row(dated(YEAR + 2 * DAY, 36 * HOUR), (), "expired", 0, "operator", "clock"),
    "dated, over, and it has answered before": Row(
        dated(YEAR), (answered(DAY),), "expired", 0, "operator", "clock", action=RENEW
    ),
    "dated wrongly: it answers after its end": Row(
        dated(YEAR + 5 * DAY), (answered(DAY),), "valid", None, "none", "proven", says="the date is wrong"
    ),
    "dated in the future, by a clock two days off": Row(dated(-2 * DAY), (), "valid", 367, "operator", "clock"),
    "over by a clock two days ahead, and it answers": Row(
        dated(YEAR + DAY), (answered(MINUTE),), "valid", None, "none", "proven"
    ),
    "made by the hub": Row(made(10 * DAY), (), "valid", 355, "ledger", "clock"),
    "made by the hub, as the ledger knows": Row(
        TOKEN, (Known(issued_at=at(YEAR - DAY)),), "warning", 1, "ledger", "clock", action=RENEW
    ),
    "the ledger knows better than the owner": Row(
        dated(YEAR + DAY), (Known(issued_at=at(10 * DAY)),), "valid", 355, "ledger", "clock"
    ),
    "the owner knows better than the first sight": Row(
        dated(100 * DAY), (seen(DAY),), "valid", 265, "operator", "clock"
    ),
    # -- answers and refusals
    "it has answered": Row(TOKEN, (answered(),), "valid", level="proven", says="It last answered"),
    "it has answered, and ends soon": Row(
        dated(YEAR - DAY), (answered(),), "warning", 1, "operator", "clock", says="It last answered", action=RENEW
    ),
    "refused": Row(TOKEN, (refused("auth_rejected"),), "rejected", 0, level="proven", says="refuses", action=RENEW),
    "refused, and nothing of its file has changed since": Row(
        replace(TOKEN, since=at()), (refused("auth_rejected", 40 * DAY),), "rejected", 0, level="proven"
    ),
    "refused after an answer": Row(
        TOKEN, (answered(2 * HOUR), refused("auth_rejected")), "rejected", 0, level="proven"
    ),
    "answered after a refusal": Row(TOKEN, (refused("auth_rejected", 2 * HOUR), answered()), "valid", level="proven"),
    "refused and answered at once": Row(TOKEN, (refused("auth_rejected"), answered()), "rejected", 0, level="proven"),
    "used up after a refusal: the provider knows it": Row(
        TOKEN, (refused("auth_rejected", 2 * HOUR), accepted()), "valid", level="proven"
    ),
    "refused after it was used up": Row(
        TOKEN, (accepted(2 * HOUR), refused("auth_rejected")), "rejected", 0, level="proven", action=RENEW
    ),
    "dated wrongly: it is used up after its end": Row(
        dated(YEAR + 5 * DAY), (accepted(DAY),), "valid", None, "none", "proven", says="the date is wrong"
    ),
    "unreachable before it was used up": Row(LOGIN, (unreachable(HOUR / 6), accepted(MINUTE)), "valid", level="proven"),
    "refused after its year": Row(
        dated(YEAR + DAY), (refused("auth_rejected"),), "expired", 0, "operator", "proven", says="has ended"
    ),
    "refused long before its year is over": Row(
        dated(10 * DAY), (refused("auth_rejected"),), "rejected", 0, "operator", "proven", action=RENEW
    ),
    "the organisation does not allow it": Row(
        TOKEN, (refused("permission_denied"),), "misconfigured", None, level="proven", action="Do this."
    ),
    "somebody else would pay": Row(
        TOKEN, (refused("billing_blocked"),), "misconfigured", None, level="proven", action="Do this."
    ),
    "an answer of another hub with a clock that is ahead": Row(
        TOKEN, (answered(-2 * DAY),), "valid", level="proven", says="It last answered Monday 23 Nov 2026"
    ),
    # -- a Google login, which has no date
    "a login that nobody has used": Row(LOGIN, (), "valid", level="clock", action=""),
    "a login that answers": Row(LOGIN, (answered(),), "valid", level="proven"),
    "an access token that is over is no end": Row(
        replace(LOGIN, credential=Credential(kind="login", source="file", access_expires_at="2026-10-14T12:00:00Z")),
        (),
        "valid",
        level="clock",
    ),
    "revoked": Row(LOGIN, (answered(DAY), refused("auth_expired")), "expired", 0, level="proven", action=RENEW),
    "its access token refused again and again": Row(LOGIN, (refused("auth_rejected"),), "rejected", 0, level="proven"),
    "an account that is no longer served": Row(
        LOGIN,
        (refused("account_ineligible", setting="project-1"),),
        "ineligible",
        None,
        level="proven",
        action="Do this.",
    ),
    "an account that was served until now": Row(
        LOGIN, (answered(DAY), refused("account_ineligible", setting="project-1")), "ineligible", level="proven"
    ),
    "no licence in this project": Row(
        LOGIN, (refused("permission_denied", setting="project-1"),), "misconfigured", level="proven", action="Do this."
    ),
    "no licence in another project": Row(
        LOGIN, (refused("permission_denied", setting="project-2"),), "valid", level="clock"
    ),
    "refused, whatever the project": Row(
        LOGIN, (refused("auth_expired", setting="project-2"),), "expired", 0, level="proven"
    ),
    "a project is needed": Row(
        LOGIN, (refused("misconfigured", setting="project-1"),), "misconfigured", level="proven", action="Do this."
    ),
    # -- nobody could be asked
    "unreachable": Row(
        LOGIN, (unreachable(),), "unknown", level="clock", says="could not be reached", action="Check the network."
    ),
    "unreachable after an answer": Row(LOGIN, (answered(), unreachable()), "unknown", level="proven"),
    "unreachable before an answer": Row(LOGIN, (unreachable(HOUR / 6), answered(MINUTE)), "valid", level="proven"),
    "unreachable a while ago": Row(LOGIN, (unreachable(timedelta(seconds=TROUBLE_S)),), "valid", level="clock"),
    "unreachable, by a clock two days ahead": Row(LOGIN, (unreachable(-2 * DAY),), "valid", level="clock"),
    "unreachable, and ends soon": Row(
        dated(YEAR - DAY), (unreachable(),), "warning", 1, "operator", "clock", says="could not be reached"
    ),
    "unreachable, and over": Row(dated(YEAR + DAY), (unreachable(),), "expired", 0, "operator", "clock", action=RENEW),
    "refused before it became unreachable": Row(
        LOGIN, (refused("auth_expired"), unreachable()), "expired", 0, level="proven"
    ),
    # -- what a reader cannot use
    "nothing there": Row(MISSING, (), "missing", level=None, action="Log in."),
    "nothing there, whatever was known": Row(MISSING, (answered(),), "missing", level=None),
    "a file that is none": Row(
        with_problem(LOGIN, Misconfigured("It is a folder.", action="Mend it.")),
        (),
        "misconfigured",
        level="present",
        says="It is a folder.",
        action="Mend it.",
    ),
    "an API key": Row(
        with_problem(TOKEN, BillingBlocked("It is a key.", action="Take it out.")), (), "misconfigured", level="present"
    ),
    "over, and nothing to renew it with": Row(
        with_problem(LOGIN, AuthExpired("It has ended.", action="Log in.")), (), "expired", 0, level="present"
    ),
}


def status_of(row: Row) -> TokenStatus:
    known = NOTHING
    for part in row.known:
        known = merged(known, part)
    return verdict(row.held, known, NOW, alert=ALERT)


def test_the_table_is_as_long_as_promised() -> None:
    """At least fifty scenarios, with those in `tests/guarantees`."""
    assert len(ROWS) >= 50


@pytest.mark.parametrize("row", ROWS.values(), ids=ROWS)
def test_a_moment_in_the_life_of_a_login(row: Row) -> None:
    """The status, the days, how it is known, what is said and the next step."""
    status = status_of(row)

    assert (status.status, status.days_remaining, status.expires_source) == (row.status, row.days, row.source)
    assert (status.evidence.level if status.evidence else None) == row.level
    assert row.says in status.message
    assert row.action is None or status.action == row.action
    assert status.usable is (status.status in USABLE)
    assert (status.expires_at is None) is (status.expires_source == "none")


def test_a_message_has_local_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """DESIGN 3.3: as the owner's clock shows it, and how long that is from now."""
    import time

    monkeypatch.setenv("TZ", "Asia/Seoul")
    time.tzset()
    try:
        status = verdict(dated(YEAR - 2 * DAY - HOUR), NOTHING, NOW, alert=ALERT)
    finally:
        monkeypatch.delenv("TZ")
        time.tzset()

    assert "Wednesday 25 Nov 2026 22:00 KST, 2 days" in status.message


def test_a_path_that_is_no_utf_8_keeps_no_status_from_being_sent() -> None:
    """Of a login's file. One that cannot be encoded would take the other provider's status with it."""
    held = replace(LOGIN, source="/home/M\udcfcller", note="In /home/M\udcfcller.")

    status = verdict(held, NOTHING, NOW, alert=ALERT)

    assert "/home/M?ller" in status.model_dump_json()
    assert status.evidence is not None
    assert status.evidence.source == "/home/M?ller"


def test_the_last_error_and_the_last_success_are_told_with_their_times() -> None:
    """Whatever the status is made of."""
    known = merged(merged(answered(3 * HOUR), refused("auth_rejected", 2 * HOUR)), unreachable(HOUR))

    status = verdict(LOGIN, known, NOW, alert=ALERT)

    assert status.last_success_at == "2026-11-23T09:00:00Z"
    assert status.last_error is not None
    assert (status.last_error.code, status.last_error.at) == ("upstream_error", "2026-11-23T11:00:00Z")


@pytest.mark.parametrize(
    ("lasted", "says"),
    [
        ((), ""),
        ((Lasted(seconds=7 * 86_400, exact=True),), "lasted about 7 days; this one is 5 days old."),
        ((Lasted(seconds=16 * 3600, exact=False),), "lasted at least 16 hours; this one is 5 days old."),
        (
            (Lasted(seconds=90 * 86_400, exact=True), Lasted(seconds=30 * 86_400, exact=True)),
            "lasted about 30 days; this one is 5 days old.",
        ),
    ],
)
def test_how_long_logins_of_the_account_lasted_is_a_guess_and_moves_no_date(
    lasted: tuple[Lasted, ...], says: str
) -> None:
    """Sessions of a workspace may end after days: who was logged out twice wants to know, and no date is made of it."""
    status = verdict(LOGIN, seen(5 * DAY), NOW, alert=ALERT, lasted=lasted)

    assert says in status.message
    assert ("Earlier logins" in status.message) is bool(lasted)
    assert (status.status, status.expires_at, status.days_remaining) == ("valid", None, None)


def test_a_window_that_has_begun_anew_is_not_told() -> None:
    """What was used of it is used no more. Quota never changes the status."""
    old = QuotaWindow(window="a", used_fraction=1.0, resets_at="2026-11-23T11:59:59Z", observed_at="x")
    new = QuotaWindow(window="b", used_fraction=1.0, resets_at="2026-11-23T12:00:01Z", observed_at="x")
    undated = QuotaWindow(window="c", used_fraction=None, resets_at=None, observed_at="x")

    status = verdict(TOKEN, Known(quota=(old, new, undated)), NOW, alert=ALERT)

    assert status.quota == current((old, new, undated), NOW) == (new, undated)
    assert status.status == "valid"


# -- which login is used -----------------------------------------------------------------------------------------------

FIRST, SECOND = replace(TOKEN, mark="first"), replace(TOKEN, mark="second")
FIRM = replace(with_problem(FIRST, Misconfigured("Cut off.", action="Mend it.")), firm=True)


@pytest.mark.parametrize(
    ("held", "known", "chosen"),
    [
        ((FIRST, SECOND), {}, FIRST),
        ((FIRST, SECOND), {"first": refused("auth_rejected")}, SECOND),
        ((FIRST, SECOND), {"first": refused("auth_rejected"), "second": refused("auth_rejected")}, FIRST),
        ((FIRST, SECOND), {"first": merged(refused("auth_rejected", 2 * HOUR), answered())}, FIRST),
        ((FIRST, SECOND), {"first": refused("permission_denied")}, FIRST),
        ((FIRST, SECOND), {"first": unreachable()}, FIRST),
        ((replace(FIRST, issued=(NOW - YEAR, timedelta(0))), SECOND), {}, SECOND),
        ((FIRM, SECOND), {}, FIRM),
        ((replace(FIRM, firm=False), SECOND), {}, SECOND),
        ((MISSING, SECOND), {}, SECOND),
        ((MISSING, replace(FIRM, firm=False)), {}, replace(FIRM, firm=False)),
        ((MISSING,), {}, MISSING),
    ],
)
def test_the_first_is_used_unless_it_is_known_to_be_dead(
    held: tuple[Held, ...], known: dict[str, Known], chosen: Held
) -> None:
    """DESIGN 3.5: one known to be rejected is passed over; what the owner has set wrongly is told."""
    assert choose(held, known, NOW, newest_first=False) == chosen


@pytest.mark.parametrize(
    ("known", "since", "chosen"),
    [
        ({"first": seen(2 * DAY), "second": seen(DAY)}, (0, 0), 1),
        ({"first": seen(DAY), "second": seen(2 * DAY)}, (0, 0), 0),
        ({"first": Known(issued_at=at(HOUR)), "second": seen(DAY)}, (0, 0), 0),
        ({"first": seen(2 * DAY), "second": merged(seen(DAY), refused("auth_expired"))}, (0, 0), 0),
        ({}, (1, 2), 1),
        ({"first": seen(DAY), "second": seen(DAY)}, (2, 1), 0),
        ({"first": seen(timedelta(0)), "second": seen(timedelta(0))}, (at(DAY), at(9 * DAY)), 0),
        ({"first": seen(9 * DAY), "second": seen(DAY)}, (at(), at(DAY)), 1),
    ],
)
def test_the_one_that_came_last_is_used(known: dict[str, Known], since: tuple[float, float], chosen: int) -> None:
    """Of two Google logins the newer one, until it is refused."""
    both = replace(FIRST, since=since[0]), replace(SECOND, since=since[1])

    assert choose(both, known, NOW, newest_first=True) == both[chosen]


@given(
    known=KNOWN.map(
        lambda known: known.model_copy(
            update={
                name: reading.model_copy(update={"at": at(timedelta(days=reading.at))})
                for name in ("success", "refusal", "trouble")
                if (reading := getattr(known, name)) is not None
            }
        )
    ),
    age=st.integers(-10, 400).map(lambda days: timedelta(days=days)),
    now=st.integers(-5, 5).map(lambda days: NOW + timedelta(days=days)),
)
def test_no_status_is_false(known: Known, age: timedelta, now: datetime) -> None:
    """Never `valid` for one that was refused last, never ended for one that has answered last."""
    held = replace(LOGIN, setting="") if age < timedelta(0) else dated(age)

    status = verdict(held, known, now, alert=ALERT)

    told: dict[str, Any] = status.model_dump()
    if known.refused is not None:
        assert told["status"] in {"rejected", "expired", "misconfigured"}
    elif known.success is not None and held.lifetime is None:
        assert told["status"] in {"valid", "unknown"}
    if told["status"] == "expired" and known.refused is None:
        assert told["expires_at"] is not None
        assert told["expires_at"] <= now.strftime("%Y-%m-%dT%H:%M:%SZ")
    assert told["days_remaining"] is None or told["days_remaining"] >= 0
