"""What coldstart and memory look like on a terminal, with the goals of effops beside them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import product

from rich.console import Group, RenderableType
from rich.table import Table

from bench.record import Row
from bench.selection import MAPPED, SUBJECT, is_subject
from bench.tables import grouped, providers

# What effops may take at most, as a share of a peer.
START_GOALS = {"openvino": 2.0, "compile": 0.1}
MEMORY_GOALS = {"onnxruntime": 0.5}


def _seconds(value: float | None) -> str:
    return "" if value is None else f"{value:.3g}"


def _mebibytes(value: int | None) -> str:
    return "" if value is None else f"{value / 2**20:.0f}"


def _ratio(value: float | None, of: float | None) -> str:
    return f"{value / of:.2f}x" if value and of else ""


@dataclass(frozen=True)
class Verdict:
    """What effops takes in a case where it has a goal, and the peer that it is measured by.

    Attributes:
        most: what effops may take at most, as a share of the peer.
        ratio: what it takes.
    """

    subject: Row
    peer: Row
    most: float
    ratio: float

    @property
    def reached(self) -> bool:
        return self.ratio <= self.most


def verdicts(by_provider: dict[str, Row], goals: dict[str, float], column: str) -> Iterator[Verdict]:
    """One for every goal whose peer has a figure, and another where effops has its weights in a mapped file."""
    for name, (peer, most) in product((SUBJECT, MAPPED), goals.items()):
        subject, row = by_provider.get(name), by_provider.get(peer)
        mine, other = (getattr(which, column) if which else None for which in (subject, row))
        if mine and other:
            yield Verdict(subject, row, most, mine / other)


def _goals(
    by_provider: dict[str, Row], goals: dict[str, float], column: str, what: str, unit: str, scale: float
) -> Iterator[str]:
    """A line for every verdict."""
    for found in verdicts(by_provider, goals, column):
        row = found.subject
        colour, word = ("green", "reached") if found.reached else ("red", "missed")
        mine, other = (f"{getattr(which, column) * scale:.3g} {unit}" for which in (row, found.peer))
        mode = "" if row.provider == SUBJECT else f" with {row.provider}"
        yield (
            f"[{colour}]{word}[/] {row.case}@{row.resolution} {row.dtype} batch {row.batch}{mode}: {what} {mine}, "
            f"{found.ratio:.2f}x of {found.peer.provider}'s {other} (goal: at most {found.most:g}x)"
        )


def _report(
    rows: Sequence[Row],
    title: str,
    columns: Sequence[str],
    cells: Callable[[Row, dict[str, Row]], Sequence[str]],
    goals: Callable[[dict[str, Row]], Iterator[str]],
) -> RenderableType:
    table = Table(title=title)
    table.add_column("network", no_wrap=True)
    table.add_column("batch", justify="right")
    table.add_column("provider", no_wrap=True)
    for column in columns:
        table.add_column(column, justify="right")
    lines: list[str] = []
    for by_provider in grouped(rows).values():
        for place, name in enumerate(providers(by_provider.values())):
            row = by_provider[name]
            head = (f"{row.case}@{row.resolution} {row.dtype}", str(row.batch)) if place == 0 else ("", "")
            shown = f"[bold]{name}" if is_subject(name) else name
            values = cells(row, by_provider) if row.status == "ok" else [f"[yellow]{row.status}"]
            table.add_row(*head, shown, *values)
        table.add_section()
        lines += goals(by_provider)
    return Group(table, *lines)


def start_report(rows: Sequence[Row]) -> RenderableType:
    """Seconds to the first result, and what they are made of."""

    def cells(row: Row, by_provider: dict[str, Row]) -> list[str]:
        subject = by_provider.get(SUBJECT)
        return [
            _seconds(row.import_s),
            _seconds(row.export_s),
            _seconds(row.prepare_s - row.first_call_s),
            _seconds(row.first_call_s),
            f"{_seconds(row.prepare_s)} [dim]{row.p20_ms / 1e3:.3g}-{row.p80_ms / 1e3:.3g}",
            _ratio(row.prepare_s, subject and subject.prepare_s),
            _seconds(row.prepare_s + row.export_s) if row.export_s else "",
        ]

    return _report(
        rows,
        "Cold start: seconds p50, each provider in fresh processes; from a model with its weights, for engines from an "
        "ONNX file, to the first result",
        ("import", "export", "prepare", "first call", "to first result", "of effops'", "with export"),
        cells,
        lambda found: _goals(found, START_GOALS, "prepare_s", "first result after", "s", 1.0),
    )


def memory_report(rows: Sequence[Row]) -> RenderableType:
    """MiB that a network needs while it runs, over those of the process with the plain network built."""

    def cells(row: Row, by_provider: dict[str, Row]) -> list[str]:
        subject = by_provider.get(SUBJECT)
        return [
            _mebibytes(row.peak_bytes),
            _ratio(row.peak_bytes, subject and subject.peak_bytes),
            _mebibytes(row.steady_bytes),
            _ratio(row.steady_bytes, subject and subject.steady_bytes),
        ]

    return _report(
        rows,
        "Memory: growth of the resident set in MiB, p50, each provider in fresh processes: at the peak of preparation "
        "and first calls, and of later calls; beside effops'",
        ("peak", "of effops'", "later", "of effops'"),
        cells,
        lambda found: _goals(found, MEMORY_GOALS, "peak_bytes", "peak", "MiB", 2**-20),
    )
