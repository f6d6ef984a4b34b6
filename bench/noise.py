"""How quiet the machine was. A ratio measured beside a running compiler says little."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from .record import Row
from .statistics import quantile

# The user, nice, system, irq, softirq and steal columns of /proc/stat; idle and iowait are columns 3 and 4.
_BUSY_COLUMNS = (0, 1, 2, 5, 6, 7)

NOISY_SPREAD = 0.15
NOISY_OTHERS = 0.10


def _busy_seconds() -> float | None:
    """Processor seconds spent by the whole machine since boot, or None where the kernel does not tell."""
    try:
        fields = Path("/proc/stat").read_text(encoding="ascii").split("\n", 1)[0].split()[1:]
        ticks = sum(int(fields[column]) for column in _BUSY_COLUMNS)
    except (OSError, IndexError, ValueError):
        return None
    return ticks / os.sysconf("SC_CLK_TCK")


def load_average() -> float | None:
    """Runnable processes, averaged over the last minute, or None where the system does not tell."""
    try:
        return os.getloadavg()[0]
    except (AttributeError, OSError):
        return None


class ForeignLoad:
    """What other processes took of the processors since this object was made."""

    def __init__(self) -> None:
        self._begin = self._now()

    @staticmethod
    def _now() -> tuple[float, float, float | None]:
        # User and system time of this process and of those that it started and that have ended.
        return time.perf_counter(), sum(os.times()[:4]), _busy_seconds()

    def share(self) -> float | None:
        """Their share of all processor time, 0 to 1, or None where the kernel does not tell."""
        wall, own, busy = (
            None if now is None or then is None else now - then
            for now, then in zip(self._now(), self._begin, strict=True)
        )
        if wall is None or own is None or busy is None or wall <= 0:
            return None
        return min(1.0, max(0.0, (busy - own) / (wall * (os.cpu_count() or 1))))


@dataclass(frozen=True)
class NoiseReport:
    """The typical spread of a run, and the processor share that others took meanwhile."""

    spread: float
    others: float | None

    @classmethod
    def of(cls, rows: Iterable[Row]) -> NoiseReport:
        """The median spread of the rows that have times, and the largest share that others took in a case."""
        rows = list(rows)
        spreads = [(row.p80_ms - row.p20_ms) / row.p50_ms for row in rows if row.p50_ms is not None]
        others = [row.others for row in rows if row.others is not None]
        return cls(quantile(spreads, 0.5) if spreads else 0.0, max(others, default=None))

    @property
    def noisy(self) -> bool:
        return self.spread > NOISY_SPREAD or (self.others or 0.0) > NOISY_OTHERS

    def __str__(self) -> str:
        others = "unknown" if self.others is None else f"{self.others:.0%}"
        text = f"typical spread (p80-p20)/p50 {self.spread:.0%}; other processes took up to {others} of the processors"
        if self.noisy:
            return f"NOISY machine: {text}. Take ratios from a quiet run"
        return f"quiet machine: {text}"
