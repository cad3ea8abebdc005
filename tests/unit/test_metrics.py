"""What Prometheus reads, read by its own parser."""

from __future__ import annotations

from typing import get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client import REGISTRY
from prometheus_client.openmetrics.parser import (
    text_string_to_metric_families as open_metrics,  # pyright: ignore[reportUnknownVariableType]
)
from prometheus_client.parser import text_string_to_metric_families as plain_text

from llm_mcp_hub.conversation import QuotaWindow
from llm_mcp_hub.credentials.status import USABLE, Evidence, State, TokenStatus
from llm_mcp_hub.observe.metrics import WINDOWS, Metrics
from tests.unit.statuses import status as login

STATES: tuple[State, ...] = get_args(State)
SECONDS = 1_795_737_600.0
MOMENT = "2026-11-27T00:00:00Z"
Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]


def window(name: str, used: float | None = 0.25, resets_at: str | None = MOMENT) -> QuotaWindow:
    return QuotaWindow(window=name, used_fraction=used, resets_at=resets_at, observed_at=MOMENT)


def samples(statuses: dict[str, TokenStatus]) -> Samples:
    """What a scrape holds. Every name is documented, and none is there twice."""
    text, content_type = Metrics().scrape(statuses)
    assert content_type.startswith("text/plain")
    found: Samples = {}
    for family in plain_text(text.decode()):
        assert family.documentation
        assert family.type == "gauge"
        for sample in family.samples:
            name = (sample.name, tuple(sorted(sample.labels.items())))
            assert name not in found
            found[name] = sample.value
    return found


def of(name: str, **labels: str) -> tuple[str, tuple[tuple[str, str], ...]]:
    return f"llm_hub_{name}", tuple(sorted(labels.items()))


@pytest.mark.parametrize("state", STATES)
def test_exactly_one_status_is_1(state: State) -> None:
    """So that an alert rule can name one, and a graph shows when it changed."""
    found = samples({"one": login(state)})

    assert {name: found[of("credential_status", provider="one", status=name)] for name in STATES} == {
        name: float(name == state) for name in STATES
    }
    assert found[of("credential_usable", provider="one")] == float(state in USABLE)


def test_what_is_known_of_a_login_is_shown() -> None:
    """Moments as seconds since 1970, windows as ratios."""
    status = login("warning").model_copy(
        update={
            "expires_at": MOMENT,
            "days_remaining": 2,
            "evidence": Evidence(level="proven", source="an answer", observed_at=MOMENT),
            "last_success_at": MOMENT,
            "quota": (window("five_hour"), window("seven_day", None), window("weekly", 1.0, None)),
        }
    )
    found = samples({"one": status, "two": login()})

    expected = {
        of("credential_expires_timestamp_seconds", provider="one"): SECONDS,
        of("credential_days_remaining", provider="one"): 2.0,
        of("credential_evidence_timestamp_seconds", provider="one", level="proven"): SECONDS,
        of("credential_last_success_timestamp_seconds", provider="one"): SECONDS,
        of("quota_used_ratio", provider="one", window="five_hour"): 0.25,
        of("quota_used_ratio", provider="one", window="weekly"): 1.0,
        of("quota_resets_timestamp_seconds", provider="one", window="five_hour"): SECONDS,
        of("quota_resets_timestamp_seconds", provider="one", window="seven_day"): SECONDS,
    }
    always = {"llm_hub_credential_status", "llm_hub_credential_usable"}
    assert {name: value for name, value in found.items() if name[0] not in always} == expected


def test_what_is_not_known_has_no_sample() -> None:
    """A zero would be an expiry in 1970, and an alarm."""
    found = samples({"one": login()})

    assert {name for name, _ in found} == {"llm_hub_credential_status", "llm_hub_credential_usable"}


@given(
    names=st.lists(st.one_of(st.text(max_size=80), st.sampled_from(["five_hour", 'a"b', "a\\b", "a\nb"])), max_size=40),
    moment=st.one_of(st.just(MOMENT), st.text(max_size=30)),
)
@settings(max_examples=100)
def test_whatever_a_provider_calls_its_windows_can_be_scraped(names: list[str], moment: str) -> None:
    """One series that stands there twice, or a name that breaks the line, and Prometheus drops the whole scrape."""
    quota = tuple(window(name, resets_at=moment) for name in names)
    found = samples({"one": login().model_copy(update={"quota": quota, "expires_at": moment})})

    windows = [dict(labels)["window"] for name, labels in found if name == "llm_hub_quota_used_ratio"]
    assert len(windows) <= WINDOWS
    assert set(windows) <= set(names)


def test_a_scrape_shows_the_statuses_of_its_moment() -> None:
    """Nothing is kept between two: a provider that is gone is gone."""
    metrics = Metrics()
    metrics.scrape({"one": login("valid"), "two": login("valid")})
    text = metrics.scrape({"one": login("expired")})[0].decode()

    assert 'llm_hub_credential_status{provider="one",status="expired"} 1.0' in text
    assert "two" not in text


def test_openmetrics_is_spoken_to_whom_asks_for_it() -> None:
    """Prometheus does."""
    text, content_type = Metrics().scrape({"one": login()}, "application/openmetrics-text;version=1.0.0")

    assert content_type.startswith("application/openmetrics-text")
    assert {family.name for family in open_metrics(text.decode())} >= {"llm_hub_credential_status"}


def test_the_process_wide_registry_is_left_alone() -> None:
    """A program that embeds the hub has its own metrics there; two hubs in one process would clash."""
    before = {family.name for family in REGISTRY.collect()}
    texts = [Metrics().scrape({"one": login()})[0] for _ in range(2)]

    assert {family.name for family in REGISTRY.collect()} == before
    assert b"python_info" not in texts[0]
    assert texts[0] == texts[1]
