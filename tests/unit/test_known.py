"""What is known of a login merges in any order to the same whole, and the newest evidence decides."""

from __future__ import annotations

import json
from functools import reduce

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_mcp_hub.conversation import QuotaWindow
from llm_mcp_hub.credentials.known import NOTHING, Held, Known, Reading, merged

TIMES = st.integers(0, 6).map(float)
"""Few, so that two readings are often of one moment."""
READINGS = st.builds(Reading, at=TIMES, code=st.sampled_from(["", "auth_rejected", "auth_expired"]))
WINDOWS = st.lists(
    st.builds(
        QuotaWindow,
        window=st.sampled_from(["five_hour", "seven_day", "gemini-2.5-pro"]),
        used_fraction=st.sampled_from([None, 0.5, 1.0]),
        resets_at=st.none(),
        observed_at=st.sampled_from(["2026-11-23T12:00:00Z", "2026-11-23T12:00:01Z"]),
    ),
    max_size=3,
    unique_by=lambda window: window.window,
).map(lambda windows: tuple(sorted(windows, key=lambda window: window.window)))
KNOWN = st.builds(
    Known,
    success=st.none() | READINGS,
    accepted=st.none() | READINGS,
    refusal=st.none() | READINGS,
    trouble=st.none() | READINGS,
    issued_at=st.none() | TIMES,
    first_seen=st.none() | TIMES,
    quota=WINDOWS,
)


@given(KNOWN, KNOWN)
def test_the_order_does_not_matter(one: Known, other: Known) -> None:
    """Two hubs learn of each other's evidence in whatever order it comes."""
    assert merged(one, other) == merged(other, one)


@given(KNOWN, KNOWN, KNOWN)
def test_nor_does_what_is_joined_first(one: Known, other: Known, third: Known) -> None:
    """So no hub has to be the one that joins."""
    assert merged(merged(one, other), third) == merged(one, merged(other, third))


@given(KNOWN)
def test_what_is_known_already_adds_nothing(one: Known) -> None:
    """A hub reads its own evidence back from the store."""
    assert merged(one, one) == merged(one, NOTHING) == one


@given(st.lists(READINGS, min_size=1), st.lists(READINGS, min_size=1))
def test_a_refusal_holds_until_a_later_success(successes: list[Reading], refusals: list[Reading]) -> None:
    """A rejection is hidden by nothing older, and by nothing of the same moment."""
    parts = [Known(success=reading) for reading in successes] + [Known(refusal=reading) for reading in refusals]

    whole = reduce(merged, parts, NOTHING)

    refused = max(r.at for r in refusals) >= max(s.at for s in successes)
    assert (whole.refused is not None) is refused
    assert whole.newest == max(reading.at for reading in [*successes, *refusals])


LONG = {name: f"made-up-{name}" for name in ("access_token", "refresh_token", "id_token")}


@pytest.mark.parametrize(
    ("secret", "hidden"),
    [
        ("sk-ant-oat01-made-up", ["sk-ant-oat01-made-up"]),
        (json.dumps({**LONG, "expiry_date": 1, "scope": "https://www.googleapis.com", "token_type": "Bearer"}),
         list(LONG.values())),
        ("[1]", ["[1]"]),
        ("[" * 100_000, ["[" * 100_000]),
    ],
    ids=["a token", "a login of several", "a list", "deeper than anybody nests"],
)  # fmt: skip
def test_every_token_of_a_login_is_kept_out_of_the_log(secret: str, hidden: list[str]) -> None:
    """G7: the long-lived one most of all; and not what stands in every login, or the log could not be read."""
    assert Held("The login", None, "made up", "Make one.", secret=secret).secrets() == hidden
