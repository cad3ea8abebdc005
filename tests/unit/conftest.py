"""Hypothesis for all of these: no deadlines of its own (the machine may be busy), and the same examples each time."""

from __future__ import annotations

from hypothesis import HealthCheck, settings

settings.register_profile(
    "hub",
    deadline=None,
    derandomize=True,  # a red run must be the change's doing, not the dice's
    max_examples=200,
    report_multiple_bugs=False,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("hub")
