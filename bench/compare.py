"""Did effops become slower between two runs? Judged per problem, with the noise and the drift of the machine
in mind.

The peers did not change between the runs, so what changed for them is the machine: effops' change is divided
by the median change of the peers of the same problem. A problem is slower only when that changes by more than
the threshold and the p20-p80 ranges of both runs lie apart.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from .errors import BenchError
from .record import Row
from .selection import is_subject
from .statistics import quantile
from .tables import grouped

SLOWER, FASTER, SAME = "slower", "faster", "same"


@dataclass(frozen=True)
class Comparison:
    """One problem in both runs.

    Attributes:
        provider: effops, or a mode of it.
        change: new time over old time, the drift of the machine taken out.
        drift: median change of the peers; 1 when there is none to tell.
        verdict: "slower", "faster", or "same" within threshold and noise; "wrong", "failed" or "skipped" when
            effops has no time in the new run.
    """

    case: str
    batch: int
    dtype: str
    provider: str
    old_ms: float
    new_ms: float | None
    change: float | None
    drift: float
    verdict: str

    @property
    def regressed(self) -> bool:
        return self.verdict not in (FASTER, SAME)


def _drift(old: dict[str, Row], new: dict[str, Row]) -> float:
    changes = [
        new[name].p50_ms / old[name].p50_ms
        for name in old.keys() & new.keys()
        if not is_subject(name) and old[name].p50_ms and new[name].p50_ms
    ]
    return quantile(changes, 0.5) if changes else 1.0


def _compare(name: str, old: dict[str, Row], new: dict[str, Row], threshold: float) -> Comparison:
    before, after = old[name], new[name]
    drift = _drift(old, new)
    problem = after.case, after.batch, after.dtype, name
    if after.p50_ms is None:
        return Comparison(*problem, before.p50_ms, None, None, drift, after.status)
    change = after.p50_ms / before.p50_ms / drift
    verdict = SAME
    if change > 1 + threshold and after.p20_ms / drift > before.p80_ms:
        verdict = SLOWER
    elif change < 1 / (1 + threshold) and after.p80_ms / drift < before.p20_ms:
        verdict = FASTER
    return Comparison(*problem, before.p50_ms, after.p50_ms, change, drift, verdict)


def _same_machine(old: Sequence[Row], new: Sequence[Row]) -> None:
    for field in ("cpu", "threads"):
        before, after = (getattr(rows[0].environment, field) for rows in (old, new))
        if before != after:
            raise BenchError(
                f"the runs differ in {field}: {before!r} and {after!r}. Times of different machines say "
                "nothing about the code; measure both versions on one"
            )


def compare(old: Sequence[Row], new: Sequence[Row], threshold: float = 0.05) -> list[Comparison]:
    """Compare effops' times of two runs, for every problem that both have.

    Raises:
        BenchError: the runs come from different machines or thread counts, or have no problem in common.
    """
    _same_machine(old, new)
    before, after = grouped(old), grouped(new)
    comparisons = [
        _compare(name, before[problem], after[problem], threshold)
        for problem in before
        if problem in after
        for name in before[problem]
        if is_subject(name) and name in after[problem] and before[problem][name].p50_ms is not None
    ]
    if not comparisons:
        raise BenchError("the two files have no problem in common that effops was timed on")
    return comparisons
