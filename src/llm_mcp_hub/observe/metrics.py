"""What Prometheus reads: counters and histograms of what has happened, and gauges of what is, made at each scrape.

Knows what a status, an ask's end and a hub's state are, and not where they come from; they are handed in. A registry of
its own, so that a process that embeds the hub keeps its metrics and the hub does not show them. Every label has a
bound, whatever callers send; no value is a secret, and none names a client: an owner may have as many as he likes.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import get_args

from prometheus_client import (
    CollectorRegistry,
    Counter,
    GCCollector,
    Histogram,
    Info,
    PlatformCollector,
    ProcessCollector,
)
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from llm_mcp_hub.conversation import Ask
from llm_mcp_hub.credentials.status import State, TokenStatus
from llm_mcp_hub.errors import CODES
from llm_mcp_hub.observer import Ending, HubState, Traffic

ANSWER, OTHER = "answer", "other"
ROUTES = ("/mcp", "/health/live", "/health/ready", "/health/tokens", "/metrics")
"""Every other path is OTHER."""
STATUS_CLASSES = ("1xx", "2xx", "3xx", "4xx", "5xx")
REFUSALS = (
    "address",
    "host",
    "origin",
    "shut",
    "no_token",
    "two_tokens",
    "wrong_token",
    "scope",
    "failures",
    "requests",
    "asks",
    "at_once",
    "body_size",
    "body_time",
    "body_form",
    "head_time",
    "connections",
    "sessions",
)
"""Why a request was not let in: where it came to, the name it used, the page it came from, … Every other is OTHER."""
TOKEN_FAULTS = ("no_token", "two_tokens", "wrong_token", "failures")
"""The last: too many of the others from one address."""
DIRECTIONS = ("input", "output", "cached_input", "thinking")
ASK_BUCKETS = (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 40, 80, 160, 320, 600, 1200, 3600)
FIRST_TEXT_BUCKETS = (0.05, 0.1, 0.25, 0.5, 1, 2, 4, 8, 16, 32, 64, 128, 300)
QUEUE_BUCKETS = (0.01, 0.05, 0.1, 0.5, 1, 5, 10, 30, 60, 300, 600)
STATES: tuple[str, ...] = get_args(State)
WINDOWS = 16
"""Of one provider's quota: their names are the provider's, and each is a series for as long as Prometheus keeps any."""
_WINDOW = re.compile(r"[\w.:/ -]{1,64}")


class Metrics:
    """All that one process tells Prometheus; an `Observer` of asks, and told of HTTP requests."""

    def __init__(self, *, version: str = "", store: str = "sqlite", providers: Sequence[str] = ()) -> None:
        """`store` is the kind of it; `providers` are those whose asks are counted."""
        self._registry = registry = CollectorRegistry(auto_describe=False)
        self._providers = tuple(providers)
        self._now = _Now(store)
        registry.register(self._now)
        self._asks = Counter(
            "llm_hub_asks",
            "Accepted asks that have ended, by `answer` or the code of their error.",
            ("provider", "outcome"),
            registry=registry,
        )
        self._refused = Counter(
            "llm_hub_asks_refused",
            "Asks that were not accepted, by the code of their error.",
            ("provider", "reason"),
            registry=registry,
        )
        self._retries = Counter(
            "llm_hub_ask_retries", "Asks submitted anew before their first text.", ("provider",), registry=registry
        )
        self._usage = Counter(
            "llm_hub_usage",
            "Model tokens, as the providers count them. `cached_input` is a part of `input`.",
            ("provider", "direction"),
            registry=registry,
        )
        self._duration = Histogram(
            "llm_hub_ask_duration_seconds",
            "From an ask's arrival to its end, whichever.",
            ("provider",),
            registry=registry,
            buckets=ASK_BUCKETS,
        )
        self._first_text = Histogram(
            "llm_hub_ask_first_text_seconds",
            "From an ask's arrival to its first text.",
            ("provider",),
            registry=registry,
            buckets=FIRST_TEXT_BUCKETS,
        )
        self._queue = Histogram(
            "llm_hub_ask_queue_seconds",
            "From an ask's arrival until it had its place.",
            ("provider",),
            registry=registry,
            buckets=QUEUE_BUCKETS,
        )
        self._requests = Counter(
            "llm_hub_http_requests",
            "HTTP requests that have been answered, refused ones too.",
            ("route", "status"),
            registry=registry,
        )
        self._refusals = Counter(
            "llm_hub_http_refusals", "HTTP requests that were not let in.", ("reason",), registry=registry
        )
        self._strangers = Counter(
            "llm_hub_authentication_failures",
            "HTTP requests without a client token that is known.",
            ("reason",),
            registry=registry,
        )
        Info("llm_hub_build", "The version of this hub.", registry=registry).info({"version": version})
        ProcessCollector(registry=registry)
        PlatformCollector(registry=registry)
        GCCollector(registry=registry)
        self._begin()

    def _begin(self) -> None:
        """Every series is there from the start, at 0: one that begins at 1 has no rate."""
        for provider in self._providers:
            for outcome in (ANSWER, *CODES):
                self._asks.labels(provider, outcome)
            for one in (self._retries, self._duration, self._first_text, self._queue):
                one.labels(provider)
            for direction in DIRECTIONS:
                self._usage.labels(provider, direction)
        for reason in (*REFUSALS, OTHER):
            self._refusals.labels(reason)
        for reason in TOKEN_FAULTS:
            self._strangers.labels(reason)

    # -- told as it happens --------------------------------------------------------------------------------------------

    def accepted(self, ask: Ask) -> _Ask:
        """See `Observer`."""
        return _Ask(self, self._provider(ask.provider))

    def refused(self, provider: str, code: str) -> None:
        """See `Observer`."""
        self._refused.labels(self._provider(provider), _one_of(CODES, code)).inc()

    def tried_again(self, provider: str) -> None:
        self._retries.labels(provider).inc()

    def ended(self, provider: str, ending: Ending) -> None:
        code = "internal" if ending.error is None else _one_of(CODES, ending.error.code)
        self._asks.labels(provider, code if ending.answer is None else ANSWER).inc()
        self._duration.labels(provider).observe(ending.duration_ms / 1000)
        if ending.queue_ms is not None:
            self._queue.labels(provider).observe(ending.queue_ms / 1000)
        if ending.first_text_ms is not None:
            self._first_text.labels(provider).observe(ending.first_text_ms / 1000)
        if ending.answer is not None:
            used = ending.answer.usage
            counted = (used.input_tokens, used.output_tokens, used.cached_input_tokens, used.thinking_tokens)
            for direction, tokens in zip(DIRECTIONS, counted, strict=True):
                self._usage.labels(provider, direction).inc(max(0, tokens or 0))

    def answered(self, path: str, status: int) -> None:
        """An HTTP request for this path has been answered."""
        self._requests.labels(_one_of(ROUTES, path), _one_of(STATUS_CLASSES, f"{status // 100}xx")).inc()

    def turned_away(self, reason: str) -> None:
        """An HTTP request was not let in."""
        self._refusals.labels(_one_of(REFUSALS, reason)).inc()
        if reason in TOKEN_FAULTS:
            self._strangers.labels(reason).inc()

    # -- asked for at a scrape -----------------------------------------------------------------------------------------

    def scrape(
        self,
        statuses: Mapping[str, TokenStatus],
        accept: str = "",
        *,
        state: HubState | None = None,
        traffic: Traffic | None = None,
    ) -> tuple[bytes, str]:
        """The text for one scrape and its content type: OpenMetrics where `accept` asks for it."""
        try:
            encode, content_type = choose_encoder(accept)
        except (TypeError, ValueError):  # a version in it that is none
            encode, content_type = choose_encoder("")
        self._now.statuses, self._now.state, self._now.traffic = statuses, state or HubState(), traffic or Traffic()
        return encode(_WithoutBirthdays(self._registry)), content_type

    def _provider(self, name: str) -> str:
        return _one_of(self._providers, name)


class _Ask:
    """One ask, counted when it ends."""

    __slots__ = ("_metrics", "_provider")

    def __init__(self, metrics: Metrics, provider: str) -> None:
        self._metrics = metrics
        self._provider = provider

    def tried_again(self, code: str) -> None:
        del code  # the series would be many, and the log has it
        self._metrics.tried_again(self._provider)

    def ended(self, ending: Ending) -> None:
        self._metrics.ended(self._provider, ending)


class _WithoutBirthdays(Collector):
    """The library tells of every series when it was made, as one more series; to keep it from that is process-wide."""

    def __init__(self, inner: Collector) -> None:
        self._inner = inner

    def collect(self) -> Iterable[Metric]:
        for metric in self._inner.collect():
            metric.samples = [sample for sample in metric.samples if not sample.name.endswith("_created")]
            yield metric


def _one_of(known: Sequence[str], value: str) -> str:
    return value if value in known else OTHER


class _Now(Collector):
    """What is, at the moment of a scrape."""

    def __init__(self, store: str) -> None:
        self._store = store
        self.statuses: Mapping[str, TokenStatus] = {}
        self.state = HubState()
        self.traffic = Traffic()

    def collect(self) -> Iterable[Metric]:
        return [*logins(self.statuses), *busy(self.state, self._store), *traffic(self.traffic)]


def busy(state: HubState, store: str) -> list[Metric]:
    """What the hub is busy with."""
    running = GaugeMetricFamily("llm_hub_asks_running", "Asks that have their place.", labels=["provider"])
    waiting = GaugeMetricFamily("llm_hub_asks_waiting", "Asks in the queue.", labels=["provider"])
    places = GaugeMetricFamily(
        "llm_hub_ask_places", "How many asks may run at once, over all hubs on the store.", labels=["provider"]
    )
    children = GaugeMetricFamily("llm_hub_children", "Processes of a provider's CLI.", labels=["provider"])
    started = CounterMetricFamily(
        "llm_hub_children_started", "Processes of a provider's CLI that were started.", labels=["provider"]
    )
    for provider, load in state.loads.items():
        running.add_metric([provider], load.running)
        waiting.add_metric([provider], load.waiting)
        places.add_metric([provider], load.places)
        children.add_metric([provider], load.children)
        started.add_metric([provider], load.children_started)
    up = GaugeMetricFamily("llm_hub_store_up", "Whether the store can be read.", labels=["kind"])
    up.add_metric([store], float(state.store_up))
    draining = GaugeMetricFamily(
        "llm_hub_draining", "Whether the hub takes no new asks and ends.", value=float(state.draining)
    )
    return [running, waiting, places, children, started, up, draining]


def traffic(now: Traffic) -> list[Metric]:
    """What is open over HTTP."""
    return [
        GaugeMetricFamily("llm_hub_http_sessions", "Open sessions of the older MCP era.", value=now.sessions),
        GaugeMetricFamily("llm_hub_http_requests_open", "HTTP requests without a whole answer.", value=now.requests),
        GaugeMetricFamily("llm_hub_http_streams_open", "Answers of them that are event streams.", value=now.streams),
    ]


def logins(statuses: Mapping[str, TokenStatus]) -> list[Metric]:
    """The gauges of these logins. What is not known has no sample: zero would be a lie."""
    state = GaugeMetricFamily(
        "llm_hub_credential_status", "1 for the status that the login has.", labels=["provider", "status"]
    )
    usable = GaugeMetricFamily("llm_hub_credential_usable", "Whether the login is used for asks.", labels=["provider"])
    expires = GaugeMetricFamily(
        "llm_hub_credential_expires_timestamp_seconds", "When a person must act at the latest.", labels=["provider"]
    )
    days = GaugeMetricFamily(
        "llm_hub_credential_days_remaining", "Whole days until a person must act.", labels=["provider"]
    )
    evidence = GaugeMetricFamily(
        "llm_hub_credential_evidence_timestamp_seconds",
        "When the evidence for the status was seen, by how much it proves.",
        labels=["provider", "level"],
    )
    success = GaugeMetricFamily(
        "llm_hub_credential_last_success_timestamp_seconds",
        "When the provider last answered with this login.",
        labels=["provider"],
    )
    used = GaugeMetricFamily(
        "llm_hub_quota_used_ratio", "What is used of the subscription's window.", labels=["provider", "window"]
    )
    resets = GaugeMetricFamily(
        "llm_hub_quota_resets_timestamp_seconds",
        "When the subscription's window begins anew.",
        labels=["provider", "window"],
    )
    for provider, status in statuses.items():
        for name in STATES:
            state.add_metric([provider, name], float(status.status == name))
        usable.add_metric([provider], float(status.usable))
        _add(expires, [provider], _seconds(status.expires_at))
        _add(days, [provider], status.days_remaining)
        if status.evidence is not None:
            _add(evidence, [provider, status.evidence.level], _seconds(status.evidence.observed_at))
        _add(success, [provider], _seconds(status.last_success_at))
        # A series that stands there twice makes Prometheus refuse the whole scrape: the last one counts.
        windows = {window.window: window for window in status.quota if _WINDOW.fullmatch(window.window)}
        for window in list(windows.values())[:WINDOWS]:
            _add(used, [provider, window.window], window.used_fraction)
            _add(resets, [provider, window.window], _seconds(window.resets_at))
    return [state, usable, expires, days, evidence, success, used, resets]


def _add(gauge: GaugeMetricFamily, labels: list[str], value: float | None) -> None:
    if value is not None:
        gauge.add_metric(labels, value)


def _seconds(moment: str | None) -> float | None:
    """Seconds since 1970; None for what is no moment with a zone."""
    try:
        read = datetime.fromisoformat(moment or "")
    except ValueError:
        return None
    return read.timestamp() if read.tzinfo is not None else None
