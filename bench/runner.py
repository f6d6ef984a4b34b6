"""Runs the cases of a suite and keeps their rows: after every case the CSV is complete up to there."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from .case import Case, Provider
from .measure import CaseResult, Measurement, measure
from .noise import load_average
from .progress import case_progress
from .record import Row, write
from .selection import Selection
from .timing import Schedule


class Task(ABC):
    """One case of a suite, built when its turn comes."""

    @property
    @abstractmethod
    def label(self) -> str:
        """What the progress bar says."""

    @abstractmethod
    def build(self) -> Case:
        """Build the network, the inputs and effops' answer. Takes the time it takes; nothing is timed yet."""

    @abstractmethod
    def template(self) -> Row:
        """The row without a provider. Asked for after :meth:`build`."""

    def extras(self) -> Mapping[str, Provider]:
        """What else is timed in the rounds of this case, such as the copy that limits an op."""
        return {}

    def complete(self, row: Row, result: CaseResult) -> Row:
        """Add what the suite derives from the times."""
        return row


def _fill(template: Row, measurement: Measurement, rounds: int, others: float | None) -> Row:
    row = replace(
        template,
        provider=measurement.provider,
        status=measurement.status,
        reason=measurement.reason,
        prepare_s=measurement.prepare_s,
        others=others,
        load_1m=load_average(),
    )
    if measurement.verdict is not None:
        row = replace(row, error=measurement.verdict.error, allowed_error=measurement.verdict.allowed)
    if measurement.summary is not None:
        times = measurement.summary
        row = replace(row, rounds=rounds, p20_ms=times.p20 * 1e3, p50_ms=times.p50 * 1e3, p80_ms=times.p80 * 1e3)
    return row


def run(tasks: Sequence[Task], selection: Selection, schedule: Schedule, output: Path, console: Console) -> list[Row]:
    """Measure every task with every peer and write the CSV."""
    rows: list[Row] = []
    with case_progress(console, len(tasks), schedule.rounds) as progress:
        for task in tasks:
            progress.start_case(task.label)
            progress.announce("building")
            case = task.build()
            result = measure(
                case,
                selection.peers,
                schedule,
                extras=task.extras(),
                announce=progress.announce,
                after_round=progress.round_done,
            )
            left_out = [Measurement(name, "skipped", reason) for name, reason in selection.left_out.items()]
            template = task.template()
            for measurement in [*result.measurements, *left_out]:
                row = _fill(template, measurement, schedule.rounds, result.others)
                rows.append(task.complete(row, result))
            write(rows, output)
            progress.case_done()
    return rows
