"""Whether something grows: the line through samples by Theil and Sen, and how sure its slope is. Pure.

The median of the slopes between all pairs of samples: a few samples that were taken at a bad moment do not move it. The
bounds are Sen's own (1968), by the rank of a slope among those of all pairs.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from itertools import combinations
from typing import NamedTuple

SURE = 1.96
"""Deviations of a normal distribution within which 95 of 100 lie."""


class Trend(NamedTuple):
    """A slope, and the bounds between which it is with 95 %."""

    slope: float
    low: float
    high: float


def grows(found: Trend, allowed: float, *, over: float, noise: float) -> bool:
    """Whether something surely grows faster than is `allowed`, and by more than `noise` in a stretch of that length.

    What is counted in whole pieces has bounds of no width at all: there the noise alone decides.
    """
    return found.low > allowed and (found.slope - allowed) * over > noise


def trend(at: Sequence[float], values: Sequence[float]) -> Trend:
    """How much values change for each unit of `at`. Of fewer than 4 samples nothing is sure."""
    pairs = zip(at, values, strict=True)
    slopes = sorted((b - a) / (then - now) for (now, a), (then, b) in combinations(pairs, 2) if then > now)
    if not slopes:
        return Trend(0.0, -math.inf, math.inf)
    middle, number = statistics.median(slopes), len(values)
    if number < 4:
        return Trend(middle, -math.inf, math.inf)
    spread = SURE * math.sqrt(number * (number - 1) * (2 * number + 5) / 18)
    low = math.floor((len(slopes) - spread) / 2) - 1
    high = math.ceil((len(slopes) + spread) / 2)
    return Trend(middle, slopes[max(0, low)], slopes[min(len(slopes) - 1, high)])
