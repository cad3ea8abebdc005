"""`llm-mcp-hub status` for people: what it shows, however wide the terminal is."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from llm_mcp_hub.commands.status import table
from llm_mcp_hub.conversation import QuotaWindow
from llm_mcp_hub.credentials.status import Evidence, State, TokenStatus
from llm_mcp_hub.logins import Note

NOW = datetime(2026, 11, 27, 12, 0, tzinfo=UTC)


def status(state: State = "valid", **changes: Any) -> TokenStatus:
    values: dict[str, Any] = {
        "status": state,
        "usable": state in {"valid", "warning", "unknown"},
        "expires_at": None,
        "days_remaining": None,
        "message": "It is as it is.",
        "action": "",
        "expires_source": "none",
        "credential": None,
        "evidence": Evidence(level="well_formed", source="a file", observed_at="2026-11-27T12:00:00Z"),
    }
    return TokenStatus(**{**values, **changes})


@pytest.mark.parametrize(
    ("state", "sign"),
    [
        ("valid", "ok"),
        ("warning", "soon"),
        ("unknown", "?"),
        ("missing", "none"),
        ("expired", "DOWN"),
        ("rejected", "DOWN"),
        ("ineligible", "DOWN"),
        ("misconfigured", "DOWN"),
    ],
)
def test_the_sign_tells_at_a_glance(state: State, sign: str) -> None:
    """Without a colour too: what needs somebody is in capitals."""
    line = table({"one": status(state)}, NOW).splitlines()[1]

    assert line.split()[:3] == [sign, "one", state]


@pytest.mark.parametrize(
    ("changes", "shown"),
    [
        ({}, "no date known"),
        ({"expires_at": "2026-11-29T05:03:00Z", "days_remaining": 1, "expires_source": "ledger"}, ", 1 day "),
        ({"expires_at": "2027-11-29T05:03:00Z", "days_remaining": 366, "expires_source": "operator"}, ", 366 days"),
        ({"expires_at": "2027-11-29T05:03:00Z", "expires_source": "first_seen"}, "at most"),
    ],
)
def test_the_end_is_told_as_well_as_it_is_known(changes: dict[str, Any], shown: str) -> None:
    """A date that is only the latest possible one does not count days."""
    assert shown in table({"one": status(**changes)}, NOW).splitlines()[1]


def test_the_columns_stand_one_below_the_other_whatever_the_longest_date() -> None:
    """A Wednesday in September, 365 days away: the heading goes along."""
    long = status(expires_at="2027-09-22T11:03:00Z", days_remaining=1_365, expires_source="operator")
    heading, *lines = table({"one": long, "two": status()}, NOW).splitlines()

    shown = [line for line in lines if "well-formed" in line]
    assert {line.index("well-formed") for line in shown} == {heading.index("HOW IT IS KNOWN")}
    assert len(shown) == 2


@pytest.mark.parametrize(
    ("seen", "shown"),
    [("2026-11-27T11:59:30Z", "now"), ("2026-11-27T11:45:00Z", "15 min ago"), ("2026-11-24T12:00:00Z", "3 d ago")],
)
def test_evidence_has_an_age(seen: str, shown: str) -> None:
    """Every status says how it is known and since when."""
    proven = Evidence(level="proven", source="ask", observed_at=seen)

    assert f"proven ({shown})" in table({"one": status(evidence=proven)}, NOW)


def test_a_terminal_of_eighty_columns_holds_every_line() -> None:
    """What has no place beside the date stands below it."""
    proven = Evidence(level="proven", source="ask", observed_at="2026-11-27T11:45:00Z")
    known = {"one": status(expires_at="2027-09-22T11:03:00Z", days_remaining=299, evidence=proven)}

    narrow = table(known, NOW, columns=80).splitlines()

    assert max(map(len, narrow)) <= 80
    assert "      known: proven (15 min ago)" in narrow
    assert "proven (15 min ago)" in table(known, NOW, columns=100).splitlines()[1]
    narrower = table(known, NOW, columns=60).splitlines()
    assert max(map(len, narrower)) <= 60
    assert narrower[2].startswith("      until: Wed")


def test_the_next_step_can_be_copied() -> None:
    """It is not cut inside a word, and stands at the end; colours do not change what is there."""
    action = "Run: gcloud services enable cloudaicompanion.googleapis.com --project a-long-project-name"
    window = QuotaWindow(window="five_hour", used_fraction=0.5, resets_at=None, observed_at="x")
    known = {"one": status("misconfigured", action=action, quota=(window,))}

    plain, coloured = table(known, NOW, columns=20), table(known, NOW, columns=20, coloured=True)

    for word in action.split():
        assert word in plain.split()
    assert "used: five hour 50%" in plain
    assert coloured.replace("\x1b[31;1m", "").replace("\x1b[0m", "") == plain


def test_why_a_proof_failed_is_not_told_twice() -> None:
    """Where the status says it already; else it is told behind what the status says."""
    broke = Note("It could not be proven now (upstream_error): It broke.", "It broke.")

    assert broke.on(status(message="Nobody could be asked: It broke.")).message == "Nobody could be asked: It broke."
    assert broke.on(status(message="All is well.")).message == f"All is well. {broke.text}"
    assert Note().on(status(message="All is well.")).message == "All is well."
