"""What a clock says about a login: days, local time, states."""

from __future__ import annotations

import time
from collections.abc import Generator
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_mcp_hub.credentials.status import USABLE, by_clock, days_between, local, utc

NOW = datetime(2026, 11, 27, 5, 3, tzinfo=UTC)
MOMENTS = st.integers(86_400, 4_100_000_000).map(lambda seconds: datetime.fromtimestamp(seconds, UTC))


@pytest.fixture
def zone(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Generator[None]:
    """This process lives in the zone of the test's parameter."""
    monkeypatch.setenv("TZ", request.param)
    time.tzset()
    yield
    monkeypatch.delenv("TZ")
    time.tzset()


@pytest.mark.parametrize(
    ("left", "days"),
    {
        timedelta(days=2): 2,
        timedelta(days=2) - timedelta(seconds=1): 1,
        timedelta(days=1): 1,
        timedelta(hours=23, minutes=59, seconds=59): 0,
        timedelta(0): 0,
        timedelta(seconds=-1): 0,
        timedelta(days=-400): 0,
    }.items(),
)
def test_days_are_whole_and_never_negative(left: timedelta, days: int) -> None:
    """DESIGN 3.3: max(0, floor(seconds / 86400))."""
    assert days_between(NOW, NOW + left) == days


@pytest.mark.parametrize(
    ("left", "alert", "state"),
    [
        (timedelta(days=3), 3, "warning"),
        (timedelta(days=3, microseconds=1), 3, "valid"),
        (timedelta(microseconds=1), 0, "valid"),
        (timedelta(microseconds=1), 3, "warning"),
        (timedelta(0), 3, "expired"),
        (timedelta(0), 0, "expired"),
        (timedelta(days=-1), 3, "expired"),
    ],
)
def test_a_deadline_alone_gives_the_state(left: timedelta, alert: int, state: str) -> None:
    """The edges belong to the more careful state."""
    assert by_clock(NOW, NOW + left, timedelta(days=alert)) == state


@pytest.mark.parametrize("zone", ["KST-9"], indirect=True)
@pytest.mark.usefixtures("zone")
@pytest.mark.parametrize(
    ("then", "text"),
    {
        datetime(2026, 11, 29, 5, 3, tzinfo=UTC): "Sunday 29 Nov 2026 14:03 KST, 2 days",
        datetime(2026, 11, 28, 16, 0, tzinfo=UTC): "Sunday 29 Nov 2026 01:00 KST, 1 day",
        datetime(2026, 11, 27, 5, 4, tzinfo=UTC): "Friday 27 Nov 2026 14:04 KST, 0 days",
        datetime(2026, 11, 27, 5, 3, tzinfo=UTC): "Friday 27 Nov 2026 14:03 KST, past",
        datetime(2026, 11, 2, 5, 3, tzinfo=timezone(timedelta(hours=9))): "Monday 2 Nov 2026 05:03 KST, past",
    }.items(),
)
def test_a_deadline_reads_in_the_owners_own_time(then: datetime, text: str) -> None:
    """The day may be another one than in UTC."""
    assert local(NOW, then) == text


@pytest.mark.parametrize("zone", ["EST5EDT,M3.2.0,M11.1.0"], indirect=True)
@pytest.mark.usefixtures("zone")
def test_summer_time_is_that_of_the_deadline() -> None:
    """Not that of today: the clock on the wall will have changed by then."""
    assert "12:00 EDT" in local(NOW, datetime(2027, 7, 1, 16, 0, tzinfo=UTC))


def test_utc_is_told_to_the_second() -> None:
    """One form for programs, whatever zone the moment came in."""
    assert utc(datetime(2026, 11, 23, 21, 0, 1, 999, tzinfo=timezone(timedelta(hours=9)))) == "2026-11-23T12:00:01Z"


@given(now=MOMENTS, then=MOMENTS, alert=st.timedeltas(timedelta(0), timedelta(days=365)))
def test_state_and_days_agree_at_every_moment(now: datetime, then: datetime, alert: timedelta) -> None:
    """Never negative, never `expired` with days left, never warned of nothing, and time only makes it worse."""
    state, days = by_clock(now, then, alert), days_between(now, then)

    assert 0 <= days <= max(0.0, (then - now) / timedelta(days=1))
    assert (state == "expired") is (then <= now)
    assert (state in USABLE) is (then > now)
    order = ["valid", "warning", "expired"]
    later = by_clock(now + timedelta(hours=1), then, alert)
    assert order.index(later) >= order.index(state)
    assert utc(then).endswith("Z")
    assert local(now, then)
