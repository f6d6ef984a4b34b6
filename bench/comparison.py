"""Did effops become slower between two runs, or does it need more memory? Judged per problem, with the noise and the
drift of the machine in mind.

The peers did not change between the runs, so what changed for their times is the machine: effops' change is divided
by the median change of the peers of the same problem. Memory does not drift. A problem is worse only when it changes by
more than the threshold and the p20-p80 ranges of both runs lie apart, those of memory by more than ``PAGE_BYTES``.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from .appearance import problem_title
from .errors import BenchError
from .record import Row
from .selection import is_subject
from .statistics import quantile
from .tables import grouped

SAME = "same"
_TIME = ("slower", "faster")
# A huge page: whether the kernel gives one more is chance.
PAGE_BYTES = 2 << 20
_MEMORY = ("MiB", 1 / 2**20, PAGE_BYTES, False, ("larger", "smaller"))


@dataclass(frozen=True)
class Quantity:
    """Something of a row that can be judged: its columns, and how a reader gets it.

    Attributes:
        low, middle, high: columns of p20, p50 and p80; without samples all are the same.
        scale: of the unit.
        floor: a change that is never one, in the unit of the columns.
        drifts: with the machine, as peers tell.
        verdicts: for more and for less.
        suite: the only one that it is judged in, or "".
    """

    name: str
    low: str
    middle: str
    high: str
    unit: str
    scale: float
    floor: float
    drifts: bool
    verdicts: tuple[str, str]
    suite: str = ""

    def range(self, row: Row) -> tuple[float, float, float] | None:
        """p20, p50 and p80; None where the row has no such thing. Files from before the spread was written have the
        middle alone."""
        middle = getattr(row, self.middle) if self.suite in ("", row.suite) else None
        if middle is None:
            return None
        low, high = (getattr(row, name) for name in (self.low, self.high))
        return (middle if low is None else low, middle, middle if high is None else high)

    def shown(self, value: float) -> str:
        return f"{value * self.scale:.3g} {self.unit}"


QUANTITIES = (
    Quantity("time", "p20_ms", "p50_ms", "p80_ms", "ms", 1.0, 0.0, True, _TIME),
    # How far a training step lets the process grow depends on what ran before it: judged of fresh processes alone.
    Quantity("peak memory", "peak_p20_bytes", "peak_bytes", "peak_p80_bytes", *_MEMORY, suite="memory"),
    Quantity("later memory", "steady_p20_bytes", "steady_bytes", "steady_p80_bytes", *_MEMORY, suite="memory"),
    Quantity("held memory", "held_bytes", "held_bytes", "held_bytes", *_MEMORY),
)


@dataclass(frozen=True)
class Comparison:
    """One quantity of one problem in both runs.

    Attributes:
        case: the problem, with the side of its images.
        provider: effops, or a mode of it.
        old, new: medians, in the unit of the columns; new is None where effops has none.
        change: new over old, the drift of the machine taken out.
        drift: median change of the peers; 1 when there is none to tell.
        verdict: one of the quantity's, or "same" within threshold and noise; "wrong", "failed" or "skipped" when
            effops has no figure in the new run.
    """

    case: str
    batch: int
    dtype: str
    provider: str
    quantity: Quantity
    old: float
    new: float | None
    change: float | None
    drift: float
    verdict: str

    @property
    def regressed(self) -> bool:
        return self.verdict not in (self.quantity.verdicts[1], SAME)


@dataclass(frozen=True)
class Report:
    """All comparisons, and what effops had figures of in the old run alone."""

    comparisons: list[Comparison]
    missing: list[str]

    @property
    def regressed(self) -> list[Comparison]:
        return [item for item in self.comparisons if item.regressed]


def _drift(quantity: Quantity, old: dict[str, Row], new: dict[str, Row]) -> float:
    if not quantity.drifts:
        return 1.0
    ranges = [
        (quantity.range(old[name]), quantity.range(new[name]))
        for name in old.keys() & new.keys()
        if not is_subject(name)
    ]
    changes = [after[1] / before[1] for before, after in ranges if before and after and before[1] and after[1]]
    return quantile(changes, 0.5) if changes else 1.0


def _judged(quantity: Quantity, name: str, old: dict[str, Row], new: dict[str, Row], threshold: float) -> Comparison:
    row = new[name]
    problem = problem_title(row), row.batch, row.dtype, name, quantity
    drift = _drift(quantity, old, new)
    before, after = quantity.range(old[name]), quantity.range(row)
    if after is None:
        return Comparison(*problem, before[1], None, None, drift, row.status)
    low, middle, high = (value / drift for value in after)
    more, less = quantity.verdicts
    verdict = SAME
    if middle > before[1] * (1 + threshold) and low - before[2] > quantity.floor:
        verdict = more
    elif middle < before[1] / (1 + threshold) and before[0] - high > quantity.floor:
        verdict = less
    change = middle / before[1] if before[1] else None
    return Comparison(*problem, before[1], after[1], change, drift, verdict)


def _same_machine(old: Sequence[Row], new: Sequence[Row]) -> None:
    for field in ("cpu", "device", "threads"):
        before, after = (getattr(rows[0].environment, field) for rows in (old, new))
        if before != after:
            raise BenchError(
                f"the runs differ in {field}: {before!r} and {after!r}. Figures of different machines say "
                "nothing about the code; measure both versions on one"
            )


def _known(rows: dict[str, Row]) -> Iterator[tuple[str, Quantity]]:
    """What effops has figures of in a problem: provider and quantity."""
    for name, row in rows.items():
        if is_subject(name):
            yield from ((name, quantity) for quantity in QUANTITIES if quantity.range(row) is not None)


def compare(old: Sequence[Row], new: Sequence[Row], threshold: float = 0.05) -> Report:
    """Compare effops' times and memory of two runs, for every problem that both have.

    Raises:
        BenchError: the runs come from different machines or thread counts, or have no problem in common.
    """
    _same_machine(old, new)
    before, after = grouped(old), grouped(new)
    comparisons, missing = [], []
    for problem, rows in before.items():
        for name, quantity in _known(rows):
            now = after.get(problem, {}).get(name)
            # Without a figure because it failed is a verdict; because nobody measured it, is none.
            if now is None or (now.status == "ok" and quantity.range(now) is None):
                row = rows[name]
                missing.append(f"{quantity.name} of {problem_title(row)} batch {row.batch} {row.dtype} {name}")
            else:
                comparisons.append(_judged(quantity, name, rows, after[problem], threshold))
    if not comparisons:
        suites = " and ".join(", ".join(sorted({row.suite for row in rows})) for rows in (old, new))
        raise BenchError(f"the two files have no problem in common that effops has figures of; they hold {suites}")
    return Report(comparisons, missing)
