"""Where the time of a training step goes: effops' ops, forward and backward, and the rest."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from rich.console import Console
from rich.table import Table

from bench.profiler import OURS, SelfTime, profiled, region

from .step import TrainingStep

FORWARD, BACKWARD, UPDATE = "forward", "backward", "update"
PHASES = (FORWARD, BACKWARD, UPDATE)

_STEPS = 3
_MOST_OF_REST = 12
_MOST_CALLS = 15


@dataclass(frozen=True)
class Spent:
    """Time of one op in one phase, a step.

    Attributes:
        shapes: of the tensor arguments of an effops op; empty for others.
        calls: calls a step.
    """

    op: str
    phase: str
    shapes: str
    ms: float
    calls: float

    @property
    def ours(self) -> bool:
        return self.op.startswith(OURS)


def collect(step: TrainingStep, steps: int = _STEPS) -> list[Spent]:
    """Profile some steps after an untimed one; what ops call inside an effops op counts for that op."""

    def work() -> None:
        for _ in range(steps):
            with region(FORWARD):
                loss = step.forward()
            with region(BACKWARD):
                step.backward(loss)
            with region(UPDATE):
                step.update()

    step()
    return list(_sum(profiled(work, PHASES), steps))


def _sum(times: Iterable[SelfTime], steps: int) -> Iterator[Spent]:
    milliseconds: dict[tuple[str, str, str], float] = {}
    calls: dict[tuple[str, str, str], int] = {}
    for item in times:
        key = item.op, item.region, item.shapes
        milliseconds[key] = milliseconds.get(key, 0.0) + item.ms
        calls[key] = calls.get(key, 0) + item.begins
    for key, total in milliseconds.items():
        yield Spent(*key, total / steps, calls[key] / steps)


def by_op(spent: Iterable[Spent]) -> dict[str, dict[str, float]]:
    """Milliseconds of every op in every phase, the longest op first."""
    ops: dict[str, dict[str, float]] = {}
    for item in spent:
        phases = ops.setdefault(item.op, dict.fromkeys(PHASES, 0.0))
        phases[item.phase] += item.ms
    return dict(sorted(ops.items(), key=lambda found: -sum(found[1].values())))


def _cells(phases: dict[str, float], total: float) -> list[str]:
    spent = sum(phases.values())
    return [
        *(f"{phases[phase]:.2f}" if phases[phase] else "" for phase in PHASES),
        f"{spent:.2f}",
        f"{spent / total:.1%}",
    ]


def _added(ops: Iterable[dict[str, float]]) -> dict[str, float]:
    ops = list(ops)
    return {phase: sum(phases[phase] for phases in ops) for phase in PHASES}


def ops_table(label: str, spent: list[Spent]) -> Table:
    """Every effops op, and the longest of the others."""
    ops = by_op(spent)
    total = sum(item.ms for item in spent)
    ours = {op: phases for op, phases in ops.items() if op.startswith(OURS)}
    rest = {op: phases for op, phases in ops.items() if op not in ours}
    table = Table(title=f"{label}: ms a step by op, under the profiler")
    table.add_column("op", no_wrap=True)
    for column in (*PHASES, "together", "share"):
        table.add_column(column, justify="right")
    for op, phases in ours.items():
        table.add_row(op, *_cells(phases, total))
    table.add_section()
    table.add_row("[bold]effops", *_cells(_added(ours.values()), total))
    table.add_row("[bold]the rest", *_cells(_added(rest.values()), total))
    table.add_section()
    for op, phases in list(rest.items())[:_MOST_OF_REST]:
        table.add_row(f"[dim]{op}", *_cells(phases, total))
    return table


def calls_table(spent: list[Spent]) -> Table:
    """The effops calls that take longest, by their shapes."""
    total = sum(item.ms for item in spent)
    table = Table(title="effops calls that take longest, with the shapes of their tensors")
    table.add_column("op", no_wrap=True)
    table.add_column("shapes")
    for column in ("calls", "ms", "share"):
        table.add_column(column, justify="right")
    ours = sorted((item for item in spent if item.ours), key=lambda item: -item.ms)
    for item in ours[:_MOST_CALLS]:
        cells = f"{item.calls:.0f}", f"{item.ms:.2f}", f"{item.ms / total:.1%}"
        table.add_row(f"{item.op} ({item.phase})", item.shapes, *cells)
    return table


def show(console: Console, label: str, step: TrainingStep) -> None:
    """Profile a step and print the tables."""
    with console.status(f"{label}: profiling"):
        spent = collect(step)
    console.print(ops_table(label, spent))
    if any(item.ours for item in spent):
        console.print(calls_table(spent))
    else:
        console.print("no effops op ran: this network trains as plain torch modules", highlight=False)
