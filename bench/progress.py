"""What is told while a suite runs: to a person which case, what happens in it and how much is left; to the supervisor
who is running.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from . import supervisor
from .record import CaseKey


class Watcher:
    """Is told what happens in a case; this one does not care."""

    def announce(self, text: str) -> None:
        """Say what happens now: a compilation of half a minute should not look like a hang."""

    def enter(self, provider: str, doing: str) -> None:
        """A provider is prepared now.

        Raises:
            Died: it ended the process when it did so before.
        """
        self.announce(f"{provider}: {doing}")

    def turn_of(self, provider: str) -> None:
        """A provider is timed now; it may be told often."""

    def plan(self, rounds: int) -> None:
        """So many rounds are coming."""

    def round_done(self) -> None:
        """One round is over."""


class CaseWatcher(Watcher):
    """Keeps the supervisor's board; on what is no terminal, a line a case says how far the run is."""

    def __init__(self, console: Console, cases: int, output: Path):
        self._console = console
        self._cases = cases
        self._begun = 0
        self._place = supervisor.Place(output=str(output))
        self._move()

    def _move(self, **changes: object) -> None:
        self._place = replace(self._place, **changes)
        supervisor.board.write(self._place)

    def start_case(self, label: str, key: CaseKey) -> None:
        self._begun += 1
        self._move(case=list(key), label=label, provider="", doing="starting")
        if not self._console.is_terminal:
            self._console.print(f"{self._begun}/{self._cases} {label}", soft_wrap=True, highlight=False, markup=False)

    def announce(self, text: str) -> None:
        self._move(provider="", doing=text)

    def enter(self, provider: str, doing: str) -> None:
        super().enter(provider, doing)
        if how := supervisor.died_of(self._place.case, provider):
            raise supervisor.Died(how)
        self._move(provider=provider, doing=f"{doing} {provider}")

    def turn_of(self, provider: str) -> None:
        self._move(provider=provider, doing=f"timing {provider}")

    def case_done(self) -> None:
        """The case is over and in the CSV."""
        self._move(written=True, provider="", doing="writing")

    def case_known(self) -> None:
        """The case was measured before, and is in the CSV."""
        self._begun += 1
        self._move(written=True)


class CaseProgress(CaseWatcher):
    """Two lines on a terminal: cases done, and the rounds of the current case with what happens now."""

    def __init__(self, console: Console, progress: Progress, cases: int, rounds: int, output: Path):
        super().__init__(console, cases, output)
        self._progress = progress
        self._rounds = rounds
        self._all: TaskID = progress.add_task("cases", total=cases)
        self._case: TaskID = progress.add_task("", total=rounds)
        self._label = ""

    def start_case(self, label: str, key: CaseKey) -> None:
        super().start_case(label, key)
        self._label = label
        self._progress.reset(self._case, total=self._rounds, description=label)

    def announce(self, text: str) -> None:
        super().announce(text)
        self._progress.update(self._case, description=f"{self._label}  [dim]{text}")

    def plan(self, rounds: int) -> None:
        self._progress.update(self._case, total=rounds)

    def round_done(self) -> None:
        self._progress.advance(self._case)

    def case_done(self) -> None:
        super().case_done()
        self._progress.advance(self._all)

    def case_known(self) -> None:
        super().case_known()
        self._progress.advance(self._all)


@contextmanager
def case_progress(console: Console, cases: int, rounds: int, output: Path) -> Iterator[CaseWatcher]:
    """A progress bar on a terminal, a line a case where output is redirected."""
    if not console.is_terminal:
        yield CaseWatcher(console, cases, output)
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        yield CaseProgress(console, progress, cases, rounds, output)
