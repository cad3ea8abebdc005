"""The line that the soak draws through its samples: a leak of a given size is seen, noise is none."""

from __future__ import annotations

import random

import pytest

from benchmarks.trend import grows, trend


def test_a_line_has_its_slope() -> None:
    """In whatever unit the samples' moments are."""
    assert trend([0, 1, 2, 3, 4], [10, 13, 16, 19, 22]).slope == pytest.approx(3)


def test_noise_is_no_growth() -> None:
    """The bounds of a slope hold zero where samples only go up and down."""
    dice = random.Random(1)
    found = trend(range(40), [100 + dice.uniform(-5, 5) for _ in range(40)])

    assert found.low < 0 < found.high


def test_growth_shows_through_noise_and_a_few_wild_samples() -> None:
    """A leak must not hide behind a collection of garbage, nor behind a sample at a bad moment."""
    dice = random.Random(1)
    values = [100 + at + dice.uniform(-5, 5) for at in range(40)]
    values[7], values[20] = 900, 0

    found = trend(range(40), values)

    assert found.low > 0.5
    assert found.slope == pytest.approx(1, abs=0.2)


@pytest.mark.parametrize("values", [[], [1.0], [1.0, 9.0, 20.0]])
def test_of_a_few_samples_nothing_is_sure(values: list[float]) -> None:
    """A run that was too short passes no judgement on a slope."""
    found = trend(range(len(values)), values)

    assert found.low < 0 < found.high


@pytest.mark.parametrize(
    ("values", "leaks"),
    [
        ([20 + at for at in range(13)], True),
        ([20 + at // 2 for at in range(13)], False),
        ([20, 21, 20, 22, 20, 21, 20, 20, 22, 21, 20, 20, 21], False),
        ([20] * 6 + [60] + [20] * 6, False),
    ],
    ids=["one a round", "six in all", "up and down", "one wild sample"],
)
def test_a_descriptor_a_round_is_a_leak_and_a_few_in_all_are_none(values: list[float], leaks: bool) -> None:
    """As the soak asks it of descriptors: none more is allowed, and eight come and go."""
    assert grows(trend(range(13), values), 0.0, over=12, noise=8) is leaks
