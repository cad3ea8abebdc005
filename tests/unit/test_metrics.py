"""What Prometheus reads, read by its own parser."""

from __future__ import annotations

from typing import Any, get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client import REGISTRY
from prometheus_client.openmetrics.parser import (
    text_string_to_metric_families as open_metrics,  # pyright: ignore[reportUnknownVariableType]
)
from prometheus_client.parser import text_string_to_metric_families as plain_text

from llm_mcp_hub.conversation import Answer, Ask, Billing, QuotaWindow, Usage
from llm_mcp_hub.credentials.status import USABLE, Evidence, State, TokenStatus
from llm_mcp_hub.errors import CODES, HubError
from llm_mcp_hub.observe.metrics import DIRECTIONS, OTHER, REFUSALS, ROUTES, STATUS_CLASSES, WINDOWS, Metrics
from llm_mcp_hub.observer import Ending, HubState, Load, Traffic
from tests.unit.statuses import status as login

STATES: tuple[State, ...] = get_args(State)
PROMPT = "what somebody asked"
SERIES = 500
"""More than one provider, all of its codes and all routes make; far less than names that callers choose could."""
SECONDS = 1_795_737_600.0
MOMENT = "2026-11-27T00:00:00Z"
Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]


def window(name: str, used: float | None = 0.25, resets_at: str | None = MOMENT) -> QuotaWindow:
    return QuotaWindow(window=name, used_fraction=used, resets_at=resets_at, observed_at=MOMENT)


def read(metrics: Metrics, statuses: dict[str, TokenStatus] | None = None, **now: Any) -> Samples:
    """What a scrape holds. Every name is documented, and none is there twice; OpenMetrics says the same."""
    text, content_type = metrics.scrape(statuses or {}, **now)
    assert content_type.startswith("text/plain")
    found: Samples = {}
    for family in plain_text(text.decode()):
        assert family.documentation, family.name
        assert family.type in {"gauge", "counter", "histogram"}, family.name
        for sample in family.samples:
            name = (sample.name, tuple(sorted(sample.labels.items())))
            assert name not in found
            found[name] = sample.value
    modern = metrics.scrape(statuses or {}, "application/openmetrics-text;version=1.0.0", **now)[0].decode()
    again = {(s.name, tuple(sorted(s.labels.items()))) for family in open_metrics(modern) for s in family.samples}
    assert again == set(found)
    return found


def samples(statuses: dict[str, TokenStatus]) -> Samples:
    """What a scrape says of the logins."""
    found = read(Metrics(), statuses)
    return {name: value for name, value in found.items() if name[0].startswith(("llm_hub_credential", "llm_hub_quota"))}


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
@settings(max_examples=50)
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
    assert 'provider="two"' not in text


def test_openmetrics_is_spoken_to_whom_asks_for_it() -> None:
    """Prometheus does."""
    text, content_type = Metrics().scrape({"one": login()}, "application/openmetrics-text;version=1.0.0")

    assert content_type.startswith("application/openmetrics-text")
    assert {family.name for family in open_metrics(text.decode())} >= {"llm_hub_credential_status"}


@pytest.mark.parametrize("version", [".", "1.x.0", "", "²", "9" * 5_000])
def test_a_format_of_no_version_is_answered_all_the_same(version: str) -> None:
    """A scraper's odd header is no outage of the hub: Prometheus' own library raises for some of these."""
    text, _content_type = Metrics().scrape({"one": login()}, f"application/openmetrics-text;version={version}")

    assert b"llm_hub_credential_status" in text


def test_the_process_wide_registry_is_left_alone() -> None:
    """A program that embeds the hub has its own metrics there; two hubs in one process would clash."""
    before = {family.name for family in REGISTRY.collect()}
    texts = [Metrics().scrape({"one": login()})[0] for _ in range(2)]

    assert {family.name for family in REGISTRY.collect()} == before
    assert all(b"python_info" in text for text in texts)  # of its own: each has its process in it, once


# -- asks --------------------------------------------------------------------------------------------------------------


def an_ask(provider: str = "one", **more: Any) -> Ask:
    return Ask(ask_id="ask_x", provider=provider, prompt=PROMPT, model="one-1", system=None, timeout_s=1, **more)


def an_answer() -> Answer:
    usage = Usage(input_tokens=30, output_tokens=4, cached_input_tokens=20)
    return Answer(
        ask_id="ask_x",
        status="completed",
        provider="one",
        model="one-1",
        model_source="served",
        text=PROMPT,
        conversation_id=None,
        stop_reason="end_turn",
        usage=usage,
        duration_ms=2_000,
        first_text_ms=900,
        billing=Billing(source="subscription", evidence="fuse"),
        warnings=(),
    )


def test_an_answer_is_counted_with_its_times_and_its_usage() -> None:
    """Rates, latencies and what was used of a subscription come from these."""
    metrics = Metrics(providers=["one"])
    following = metrics.accepted(an_ask())
    following.tried_again("upstream_error")
    following.ended(Ending(an_answer(), None, duration_ms=2_000, queue_ms=20, first_text_ms=900))
    found = read(metrics)

    assert found[of("asks_total", provider="one", outcome="answer")] == 1
    assert found[of("ask_retries_total", provider="one")] == 1
    assert {name: found[of("usage_total", provider="one", direction=name)] for name in DIRECTIONS} == {
        "input": 30,
        "output": 4,
        "cached_input": 20,
        "thinking": 0,
    }
    for name, seconds, bucket, below in (
        ("ask_duration_seconds", 2.0, "2.5", "1.0"),
        ("ask_first_text_seconds", 0.9, "1.0", "0.5"),
        ("ask_queue_seconds", 0.02, "0.05", "0.01"),
    ):
        assert found[of(f"{name}_sum", provider="one")] == seconds
        assert found[of(f"{name}_count", provider="one")] == 1
        assert found[of(f"{name}_bucket", provider="one", le=bucket)] == 1
        assert found[of(f"{name}_bucket", provider="one", le=below)] == 0


@pytest.mark.parametrize("error", HubError.__subclasses__(), ids=lambda kind: kind.code)
def test_a_failure_is_counted_by_its_code(error: type[HubError]) -> None:
    """An accepted ask's, and one that was not accepted: two things to alert on. A time it never had is none."""
    metrics = Metrics(providers=["one"])
    metrics.accepted(an_ask()).ended(Ending(None, error(PROMPT, action=PROMPT), duration_ms=5))
    metrics.refused("one", error.code)
    found = read(metrics)

    assert found[of("asks_total", provider="one", outcome=error.code)] == 1
    assert found[of("asks_refused_total", provider="one", reason=error.code)] == 1
    assert sum(value for (name, _), value in found.items() if name == "llm_hub_asks_total") == 1
    assert found[of("ask_queue_seconds_count", provider="one")] == 0
    assert found[of("ask_first_text_seconds_count", provider="one")] == 0
    assert found[of("ask_duration_seconds_count", provider="one")] == 1


def test_every_series_of_an_ask_is_there_before_the_first() -> None:
    """A counter that begins at 1 has no rate: the first failure of its kind would be seen by nobody."""
    found = read(Metrics(providers=["one", "two"]))

    outcomes = {dict(labels)["outcome"] for name, labels in found if name == "llm_hub_asks_total"}
    assert outcomes == {"answer", *CODES}
    assert all(value == 0 for (name, _), value in found.items() if name.startswith("llm_hub_ask"))


def test_what_a_hub_is_busy_with_is_shown() -> None:
    """Of its state at the moment of the scrape."""
    state = HubState({"one": Load(3, 2, 4, children=5, children_started=7)}, store_up=False, draining=True)
    found = read(
        Metrics(version="1.2.3", store="redis", providers=["one"]),
        state=state,
        traffic=Traffic(sessions=6, requests=8, streams=9),
    )

    expected = {
        of("asks_running", provider="one"): 3,
        of("asks_waiting", provider="one"): 2,
        of("ask_places", provider="one"): 4,
        of("children", provider="one"): 5,
        of("children_started_total", provider="one"): 7,
        of("store_up", kind="redis"): 0,
        of("draining"): 1,
        of("http_sessions"): 6,
        of("http_requests_open"): 8,
        of("http_streams_open"): 9,
        of("build_info", version="1.2.3"): 1,
    }
    assert {name: found.get(name) for name in expected} == expected
    assert found["process_resident_memory_bytes", ()] > 0


ODD_NAMES = ['a"b', "a\\b", "a\nb", "/mcp", "/metrics", "no_token", "4xx"]
ANY_NAME = st.one_of(st.text(max_size=60), st.sampled_from(ODD_NAMES))


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["accepted", "refused", "answered", "turned_away"]),
            ANY_NAME,
            ANY_NAME,
            st.integers(0, 9999),
        ),
        max_size=30,
    )
)
@settings(max_examples=50)
def test_no_name_that_anybody_sends_makes_a_new_series(told: list[tuple[str, str, str, int]]) -> None:
    """Or whoever reaches the port could fill Prometheus' memory, path by path."""
    metrics = Metrics(providers=["one"])
    for what, name, other, number in told:
        if what == "accepted":
            metrics.accepted(an_ask(name, conversation_id=other, principal=f"client:{other}")).ended(
                Ending(None, None, duration_ms=number)
            )
        elif what == "refused":
            metrics.refused(name, other)
        elif what == "answered":
            metrics.answered(name, number)
        else:
            metrics.turned_away(name)
    found = read(metrics)

    ours = [pairs for name, pairs in found if name.startswith("llm_hub")]
    labels = {(key, value) for pairs in ours for key, value in pairs if key != "le"}
    allowed = {
        "provider": {"one", OTHER},
        "outcome": {"answer", *CODES},
        "reason": {*CODES, *REFUSALS, OTHER},
        "route": {*ROUTES, OTHER},
        "status": {*STATUS_CLASSES, OTHER},
        "direction": {*DIRECTIONS},
        "kind": {"sqlite"},
        "version": {""},
    }
    assert {(key, value) for key, value in labels if value not in allowed[key]} == set()
    assert len(found) < SERIES


def test_no_word_of_an_ask_is_a_metric() -> None:
    """A label is kept as long as Prometheus keeps anything."""
    metrics = Metrics(providers=["one"])
    ask = an_ask(conversation_id="conv_secret", principal="client:somebody")
    metrics.accepted(ask).ended(Ending(an_answer(), None, duration_ms=1))
    metrics.accepted(ask).ended(Ending(None, HubError(PROMPT, action=PROMPT, partial_text=PROMPT), duration_ms=1))
    text = metrics.scrape({})[0].decode()

    assert [word for word in (PROMPT, "ask_x", "conv_secret", "somebody", "one-1") if word in text] == []
