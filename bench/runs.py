"""Several runs together: which machine a row is of, and which run has the last word on a problem."""

from __future__ import annotations

from collections.abc import Sequence

from .record import Row
from .tables import grouped

# The name of a CSV, and its rows.
Run = tuple[str, Sequence[Row]]


def machine(row: Row) -> tuple[str, str, int]:
    """What rows must share to be of one machine."""
    here = row.environment
    return here.machine, here.cpu, here.threads


def machines(rows: Sequence[Row]) -> list[tuple[str, str, int]]:
    """Every machine once, the one that was measured last before the others."""
    newest: dict[tuple[str, str, int], str] = {}
    for row in rows:
        newest[machine(row)] = max(newest.get(machine(row), ""), row.environment.date)
    return sorted(newest, key=newest.__getitem__, reverse=True)


def machine_title(row: Row) -> str:
    """The machine of a row, for a reader."""
    here = row.environment
    return f"{here.cpu}, {here.isa}, {here.threads} threads" if here.device == "cpu" else f"{here.device}"


def current(runs: Sequence[Run]) -> list[Run]:
    """The runs without the problems that a later run on the same machine measured again: a problem is taken whole from
    one run, because only there the providers took turns."""
    newest: dict[tuple, tuple[str, int]] = {}
    for index, (_, rows) in enumerate(runs):
        for row in rows:
            key = machine(row), next(iter(grouped([row])))
            newest[key] = max(newest.get(key, ("", -1)), (row.environment.date, index))
    kept = []
    for index, (name, rows) in enumerate(runs):
        own = [row for row in rows if newest[machine(row), next(iter(grouped([row])))] == (row.environment.date, index)]
        kept += [(name, own)] if own else []
    return kept
