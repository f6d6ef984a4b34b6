"""What every measuring command does when its tasks are known: measure, write, report, and judge effops."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
import typer
from rich.console import Console, RenderableType

from bench import options, runner, supervisor, tables
from bench.environment import Environment
from bench.record import Row
from bench.resume import earlier_cases
from bench.selection import SUBJECT, Selection, is_subject
from bench.timing import Schedule

console = tables.console()
errors = Console(stderr=True)


def set_threads(threads: int | None) -> None:
    options.positive("--threads", threads)
    if threads is not None:
        torch.set_num_threads(threads)


@dataclass(frozen=True)
class Run:
    """How a command measures, and where it writes.

    Attributes:
        resume: leave out the cases that the CSV has.
    """

    selection: Selection
    schedule: Schedule
    environment: Environment
    path: Path
    resume: bool = False

    def measure(self, tasks: Sequence[runner.Task]) -> list[Row]:
        """Measure what is not there yet; an interruption says how to go on."""
        options.writable("--output", self.path.parent)
        earlier = {}
        if self.resume or supervisor.goes_on():
            earlier = earlier_cases(self.path, tasks, self.selection, self.schedule, self.environment)
            done = sum(task.key in earlier for task in tasks)
            console.print(f"{done} of {len(tasks)} cases are in {self.path}", soft_wrap=True, highlight=False)
        try:
            return runner.run(tasks, self.selection, self.schedule, self.path, errors, earlier)
        except supervisor.Stopped as stop:
            self._say_how_to_go_on(f"[yellow]stopped by {stop}[/]")
            raise typer.Exit(128 + stop.number) from None
        except KeyboardInterrupt:
            self._say_how_to_go_on("[yellow]interrupted[/]")
            raise typer.Exit(130) from None
        except Exception:
            self._say_how_to_go_on("[red]stopped by an error[/]")
            raise

    def _say_how_to_go_on(self, what: str) -> None:
        some = supervisor.board.read().written
        kept = f"finished cases are in {self.path}; the same command with --resume goes on"
        errors.print(f"{what}: {kept if some else 'no case was finished'}", soft_wrap=True, highlight=False)

    def finish(self, tasks: Sequence[runner.Task], *reports: Callable[[Sequence[Row]], RenderableType]) -> None:
        """Measure and report, and leave with code 1 when effops is wrong or failed."""
        rows = self.measure(tasks)
        for report in reports:
            console.print(report(rows), highlight=False)
        tables.print_environment(console, rows)
        tables.print_exclusions(console, rows)
        tables.print_noise(console, rows)
        console.print(f"wrote {self.path}", soft_wrap=True, highlight=False)
        # A mode of effops may be missing, effops itself may not.
        invalid = [
            row
            for row in rows
            if is_subject(row.provider) and row.status != "ok" and (row.provider == SUBJECT or row.status != "skipped")
        ]
        if invalid:
            errors.print(f"[red]effops gave no valid result in {len(invalid)} cases: see above")
            raise typer.Exit(1)
