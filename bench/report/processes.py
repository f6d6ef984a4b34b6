"""The chapters on what fresh processes measured: cold start and memory."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from operator import attrgetter

from bench.appearance import problem_title, title
from bench.record import Row
from bench.selection import SUBJECT, is_subject
from bench.tables import grouped

from .networks import by_dtype, quantity_panels, taking_part
from .page import Cell, Figure, Section, Table
from .wording import mebibytes, number, seconds, times

Cells = Callable[[Row, Row | None], list[Cell]]


def _table(rows: Sequence[Row], name: str, head: Sequence[str], cells: Cells) -> Table:
    """A group a network, a row a provider, in which it is seen beside effops' row."""
    body = []
    for found in grouped(rows).values():
        first = next(iter(found.values()))
        body.append([Cell(f"{problem_title(first)}, batch {first.batch}")])
        for provider in taking_part(list(found.values())):
            row = found[provider]
            css = "bad" if row.status in ("wrong", "failed") else "quiet"
            values = cells(row, found.get(SUBJECT)) if row.status == "ok" else [Cell(row.status, css=css)]
            values += [Cell("-")] * (len(head) - len(values))
            body.append([Cell(title(provider), css="own" if is_subject(provider) else ""), *values])
    return Table(name, ["provider", *head], body)


def _of_effops(value: float | None, own: float | None, provider: str) -> Cell:
    return Cell(times(value / own) if value and own and provider != SUBJECT else "-")


def _figure(name: str, rows: Sequence[Row], columns: dict[str, str], shown: Callable[[float], str]) -> list[Figure]:
    """One panel a quantity, whose column has such a title; none where nothing was measured."""
    panels = []
    for column, heading in columns.items():
        panels += quantity_panels(rows, attrgetter(column), heading, shown)
    return [Figure(name, "Less is better.", panels)] if panels else []


def _part(value: float | None) -> Cell:
    return Cell("-" if value is None else seconds(value))


def _start_cells(row: Row, subject: Row | None) -> list[Cell]:
    # Files from before the parts were written have the whole alone.
    prepare = None if row.first_call_s is None else row.prepare_s - row.first_call_s
    spread = "" if row.p50_ms is None else f"{seconds(row.p20_ms / 1e3)}-{seconds(row.p80_ms / 1e3)}"
    return [
        Cell(seconds(row.prepare_s), spread, "own" if is_subject(row.provider) else ""),
        _of_effops(row.prepare_s, subject and subject.prepare_s, row.provider),
        *map(_part, (prepare, row.first_call_s, row.import_s, row.export_s)),
    ]


def coldstart(rows: Sequence[Row]) -> Section:
    lead = [
        "From a model with its weights, for engines from its ONNX file, to the first result: preparing, which is "
        "building, compiling and packing of weights, and the first call. Each provider in fresh processes.",
        "Imports of libraries and the export to ONNX come before, and are not in it.",
    ]
    figures, tables = [], []
    for dtype, chosen in by_dtype(rows):
        figures += _figure(f"Cold start, {dtype}", chosen, {"prepare_s": "time until the first result"}, seconds)
        head = ["first result", "of effops'", "preparing", "first call", "imports", "ONNX export"]
        tables.append(_table(chosen, f"Time until the first result, {dtype}: median, p20-p80", head, _start_cells))
    return Section("coldstart", "Cold start", lead, figures, tables)


def _mebibyte_cell(row: Row, column: str) -> Cell:
    value, low, high = (getattr(row, f"{column}{part}_bytes") for part in ("", "_p20", "_p80"))
    spread = "" if None in (low, high) or low == high else f"{number(low / 2**20)}-{number(high / 2**20)}"
    return Cell("-" if value is None else mebibytes(value), spread, "own" if is_subject(row.provider) else "")


def _memory_cells(row: Row, subject: Row | None) -> list[Cell]:
    return [
        _mebibyte_cell(row, "peak"),
        _of_effops(row.peak_bytes, subject and subject.peak_bytes, row.provider),
        _mebibyte_cell(row, "steady"),
        _of_effops(row.steady_bytes, subject and subject.steady_bytes, row.provider),
    ]


def memory(rows: Sequence[Row]) -> Section:
    lead = [
        "How far the resident memory of a fresh process grows over that with the plain network built: at its highest "
        "point in preparation and the first three calls, and in three later calls.",
        "Everyone but eager, which runs the plain network itself, thereby pays for weights of its own.",
    ]
    figures, tables = [], []
    shown = {"peak_bytes": "growth at the peak", "steady_bytes": "growth in later calls"}
    for dtype, chosen in by_dtype(rows):
        figures += _figure(f"Memory of an inference, {dtype}", chosen, shown, mebibytes)
        head = ["peak", "of effops'", "later calls", "of effops'"]
        tables.append(_table(chosen, f"Memory of an inference, {dtype}: median, p20-p80", head, _memory_cells))
    return Section("memory", "Memory of an inference", lead, figures, tables)
