"""The progress bar of a suite: which case, what happens in it now, how much is left."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn


class Watcher:
    """Is told what happens in a case; this one does not care."""

    def announce(self, text: str) -> None:
        """Say what happens now: a compilation of half a minute should not look like a hang."""

    def plan(self, rounds: int) -> None:
        """So many rounds are coming."""

    def round_done(self) -> None:
        """One round is over."""


class CaseProgress(Watcher):
    """Two lines: cases done, and the rounds of the current case with what happens now."""

    def __init__(self, progress: Progress, cases: int, rounds: int):
        self._progress = progress
        self._rounds = rounds
        self._all: TaskID = progress.add_task("cases", total=cases)
        self._case: TaskID = progress.add_task("", total=rounds)
        self._label = ""

    def start_case(self, label: str) -> None:
        self._label = label
        self._progress.reset(self._case, total=self._rounds, description=label)

    def announce(self, text: str) -> None:
        self._progress.update(self._case, description=f"{self._label}  [dim]{text}")

    def plan(self, rounds: int) -> None:
        self._progress.update(self._case, total=rounds)

    def round_done(self) -> None:
        self._progress.advance(self._case)

    def case_done(self) -> None:
        self._progress.advance(self._all)


@contextmanager
def case_progress(console: Console, cases: int, rounds: int) -> Iterator[CaseProgress]:
    """A progress bar on a terminal; silent where output is redirected."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        yield CaseProgress(progress, cases, rounds)
