"""What of an interrupted run need not be measured again."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import fields
from pathlib import Path

import torch

from .environment import Environment
from .errors import BenchError
from .record import CaseKey, Row, read
from .runner import Task
from .selection import Selection
from .timing import Schedule


def _same_environment(rows: Iterable[Row], here: Environment, path: Path) -> None:
    for row in rows:
        for field in fields(Environment):
            before, now = getattr(row.environment, field.name), getattr(here, field.name)
            if field.name != "date" and before != now:
                raise BenchError(
                    f"--resume: {path} is from another environment: its {field.name} is {before!r}, here it is "
                    f"{now!r}. Leave --resume out to measure everything again, or give another --output"
                )


def _still_skipped(row: Row, selection: Selection) -> bool:
    """Whether a provider that was skipped would be skipped again; who was not in the registry has its own reason."""
    if row.provider in selection.left_out:
        return True
    peer = {peer.name: peer for peer in selection.peers}.get(row.provider)
    return peer is None or (peer.missing() or peer.unsuited(row.batch, getattr(torch, row.dtype))) is not None


def _done(rows: Sequence[Row], wanted: Sequence[str], selection: Selection, schedule: Schedule) -> bool:
    by_provider = {row.provider: row for row in rows}
    if any(name not in by_provider for name in wanted):
        return False
    for row in (by_provider[name] for name in wanted):
        if row.status == "skipped" and not _still_skipped(row, selection):
            return False
        # Without a limit in seconds every timed row has the rounds of the schedule.
        if row.rounds is not None and schedule.case_seconds is None and row.rounds != schedule.rounds:
            return False
    return True


def earlier_cases(
    path: Path, tasks: Sequence[Task], selection: Selection, schedule: Schedule, here: Environment
) -> dict[CaseKey, list[Row]]:
    """The cases of a CSV that stay: finished ones of these tasks, and those of no task at all.

    A case is finished when every provider that is wanted now has a row, timed in as many rounds, or skipped for a
    reason that still holds. None when there is no file yet.

    Raises:
        BenchError: the file is no CSV of the bench, or is of another suite, machine, setting or version.
    """
    if not path.exists():
        return {}
    rows = read(path)
    suites = {row.suite for row in rows} - {task.key.suite for task in tasks}
    if suites:
        raise BenchError(
            f"--resume: {path} holds rows of the suite {', '.join(sorted(suites))}; each suite has a file of its own"
        )
    _same_environment(rows, here, path)
    cases: dict[CaseKey, list[Row]] = {}
    for row in rows:
        cases.setdefault(row.task, []).append(row)
    wanted = {task.key: task.providers(selection) for task in tasks}
    return {
        key: found
        for key, found in cases.items()
        if key not in wanted or _done(found, wanted[key], selection, schedule)
    }
