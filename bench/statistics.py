"""Order statistics of timing samples. Timings have long right tails, so nothing here is a mean."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass


def quantile(samples: Sequence[float], fraction: float) -> float:
    """The quantile of samples in any order, linear between neighbours, as ``numpy.quantile`` by default."""
    if not samples:
        raise ValueError("quantile of no samples")
    ordered = sorted(samples)
    position = fraction * (len(ordered) - 1)
    below = math.floor(position)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (ordered[above] - ordered[below]) * (position - below)


@dataclass(frozen=True)
class Summary:
    """Seconds a call: the median, and the 20 % and 80 % quantiles around it."""

    p20: float
    p50: float
    p80: float

    @classmethod
    def of(cls, samples: Sequence[float]) -> Summary:
        return cls(quantile(samples, 0.2), quantile(samples, 0.5), quantile(samples, 0.8))
