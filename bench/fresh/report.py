"""What coldstart and memory look like on a terminal, with the goals of effops beside them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from rich.console import Group, RenderableType
from rich.table import Table

from bench import standings
from bench.record import Row
from bench.selection import SUBJECT, is_subject
from bench.tables import grouped, providers


def _seconds(value: float | None) -> str:
    return "" if value is None else f"{value:.3g}"


def _mebibytes(value: int | None) -> str:
    return "" if value is None else f"{value / 2**20:.0f}"


def _ratio(value: float | None, of: float | None) -> str:
    return f"{value / of:.2f}x" if value and of else ""


def _report(
    rows: Sequence[Row],
    title: str,
    columns: Sequence[str],
    cells: Callable[[Row, dict[str, Row]], Sequence[str]],
) -> RenderableType:
    table = Table(title=title)
    table.add_column("network", no_wrap=True)
    table.add_column("batch", justify="right")
    table.add_column("provider", no_wrap=True)
    for column in columns:
        table.add_column(column, justify="right")
    for by_provider in grouped(rows).values():
        for place, name in enumerate(providers(by_provider.values())):
            row = by_provider[name]
            head = (f"{row.case}@{row.resolution} {row.dtype}", str(row.batch)) if place == 0 else ("", "")
            shown = f"[bold]{name}" if is_subject(name) else name
            values = cells(row, by_provider) if row.status == "ok" else [f"[yellow]{row.status}"]
            table.add_row(*head, shown, *values)
        table.add_section()
    return Group(table, standings.summary(rows))


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
    )
