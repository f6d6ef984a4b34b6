"""Runs the cases of a suite and keeps their rows: after every case the CSV is complete up to there."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import torch
from rich.console import Console

from .case import Case, Provider
from .errors import BenchError
from .measure import CaseResult, Measurement, measure, reason
from .noise import load_average
from .peers import EvalPeer, Peer
from .progress import Watcher, case_progress
from .record import CaseKey, Row, write
from .selection import Selection
from .timing import Schedule


class Task(ABC):
    """One case of a suite, built when its turn comes."""

    @property
    @abstractmethod
    def label(self) -> str:
        """What the progress bar says."""

    @property
    @abstractmethod
    def key(self) -> CaseKey:
        """What its rows share; known before anything is built."""

    def providers(self, selection: Selection) -> list[str]:
        """Who has a row when the case is done."""
        return [*(peer.name for peer in selection.peers), *selection.left_out]

    @abstractmethod
    def rows(self, selection: Selection, schedule: Schedule, watcher: Watcher) -> list[Row]:
        """Measure the case."""


class PeersTask(Task):
    """A case that every peer of a selection has a row in."""

    @abstractmethod
    def measure(self, peers: Sequence[Peer], schedule: Schedule, watcher: Watcher) -> CaseResult:
        """Build what the case needs, verify the peers and time them."""

    @abstractmethod
    def template(self) -> Row:
        """The row without a provider. Asked for after :meth:`measure`."""

    def complete(self, row: Row, result: CaseResult) -> Row:
        """Add what the suite derives from the times."""
        return row

    def rows(self, selection: Selection, schedule: Schedule, watcher: Watcher) -> list[Row]:
        result = self.measure(selection.peers, schedule, watcher)
        left_out = [Measurement(name, "skipped", why) for name, why in selection.left_out.items()]
        template = self.template()
        return [self.complete(_fill(template, found, result), result) for found in [*result.measurements, *left_out]]


class EvalTask(PeersTask):
    """A case of networks or ops in eval."""

    @abstractmethod
    def build(self) -> Case:
        """Build the network, the inputs and effops' answer. Takes the time it takes; nothing is timed yet."""

    def extras(self) -> Mapping[str, Provider]:
        """What else is timed in the rounds of this case, such as the copy that limits an op."""
        return {}

    def measure(self, peers: Sequence[EvalPeer], schedule: Schedule, watcher: Watcher) -> CaseResult:
        watcher.announce("building")
        return measure(self.build(), peers, schedule, extras=self.extras(), watcher=watcher)


def _fill(template: Row, measurement: Measurement, result: CaseResult) -> Row:
    row = replace(
        template,
        provider=measurement.provider,
        status=measurement.status,
        reason=measurement.reason,
        prepare_s=measurement.prepare_s,
        others=result.others,
        load_1m=load_average(),
    )
    if measurement.verdict is not None:
        row = replace(row, error=measurement.verdict.error, allowed_error=measurement.verdict.allowed)
    if measurement.memory is not None:
        row = replace(row, held_bytes=measurement.memory.held, peak_bytes=measurement.memory.peak)
    if measurement.summary is not None:
        times = measurement.summary
        row = replace(row, rounds=result.rounds, p20_ms=times.p20 * 1e3, p50_ms=times.p50 * 1e3, p80_ms=times.p80 * 1e3)
    return row


# What torch says on CPUs, where it has no type of error for it.
_OUT_OF_MEMORY = ("can't allocate memory", "Storage size calculation overflowed")


@contextmanager
def _named(task: Task) -> Iterator[None]:
    """Errors that no provider is to blame for name the case."""
    try:
        yield
    except BenchError as error:
        raise BenchError(f"{task.label}: {error}") from error
    except (MemoryError, RuntimeError) as error:
        known = isinstance(error, MemoryError | torch.OutOfMemoryError)
        if not known and not any(text in str(error) for text in _OUT_OF_MEMORY):
            raise
        raise BenchError(
            f"{task.label} needs more memory than there is: {reason(error)}. Ask for smaller batches or images"
        ) from error


def run(
    tasks: Sequence[Task],
    selection: Selection,
    schedule: Schedule,
    output: Path,
    console: Console,
    earlier: Mapping[CaseKey, list[Row]] | None = None,
) -> list[Row]:
    """Measure every task with every peer and write the CSV.

    Args:
        earlier: cases that are not measured again; they stay in the CSV.

    Returns:
        The rows of the tasks, in their order.

    Raises:
        BenchError: a case that nobody can run, such as one whose float64 result needs more memory than there is.
    """
    known = dict(earlier or {})
    with case_progress(console, len(tasks), schedule.rounds, output) as progress:
        for task in tasks:
            if task.key in known:
                progress.case_known()
                continue
            progress.start_case(task.label, task.key)
            with _named(task):
                known[task.key] = task.rows(selection, schedule, progress)
            write([row for rows in known.values() for row in rows], output)
            progress.case_done()
    return [row for task in tasks for row in known[task.key]]
