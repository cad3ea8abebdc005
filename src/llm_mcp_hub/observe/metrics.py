"""What Prometheus reads: gauges of the logins, made from their statuses at the moment of a scrape.

Knows what a status is, and not where it comes from; it is handed in. A registry of its own, so that a process that
embeds the hub keeps its metrics and the hub does not show them. Every label has a bound; no value is a secret.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import get_args

from prometheus_client import CollectorRegistry
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from llm_mcp_hub.credentials.status import State, TokenStatus

STATES: tuple[str, ...] = get_args(State)
WINDOWS = 16
"""Of one provider's quota: their names are the provider's, and each is a series for as long as Prometheus keeps any."""
_WINDOW = re.compile(r"[\w.:/ -]{1,64}")


class Metrics:
    """All that one process tells Prometheus."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry(auto_describe=False)
        self._logins = _Logins()
        self._registry.register(self._logins)

    def scrape(self, statuses: Mapping[str, TokenStatus], accept: str = "") -> tuple[bytes, str]:
        """The text for one scrape and its content type: OpenMetrics where `accept` asks for it."""
        encode, content_type = choose_encoder(accept)
        self._logins.statuses = statuses
        return encode(self._registry), content_type


class _Logins(Collector):
    def __init__(self) -> None:
        self.statuses: Mapping[str, TokenStatus] = {}

    def collect(self) -> Iterable[Metric]:
        return logins(self.statuses)


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
