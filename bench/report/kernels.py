"""The chapters on kernels: single ops, rows of the op table, and the time of networks by kind of kernel."""

from __future__ import annotations

from collections.abc import Sequence

from bench.appearance import kind_place, kind_title, title
from bench.record import Row
from bench.roofline import Roofs, intensity, points
from bench.selection import SUBJECT, is_subject
from bench.splits import Split, splits
from bench.statistics import quantile
from bench.tables import grouped, providers, speedup

from . import charts
from .networks import by_dtype
from .page import Cell, Figure, Key, Panel, Section, Table
from .svg import shape
from .wording import css_of, milliseconds, number, several, times

# A disturbed sample of the copy can put a share anywhere; what lies above this is drawn at the edge.
_WIDEST_SHARE = 1.25
_TICKS = ((0, "0"), (0.25, ""), (0.5, "50%"), (0.75, ""), (1, "limit"))


def _strip_figure(rows: Sequence[Row], op: str, dtype: str) -> Figure | None:
    timed = [row for row in rows if row.share_of_limit is not None]
    if not timed:
        return None
    names = providers(timed)
    css, panels = css_of(names), []
    for batch in sorted({row.batch for row in timed}):
        dots = []
        for place, name in enumerate(names):
            found = [row for row in timed if row.batch == batch and row.provider == name]
            if not found:
                continue
            shares = [row.share_of_limit for row in found]
            middle = quantile(shares, 0.5)
            titles = [f"{row.case}: {row.share_of_limit:.0%}" for row in found]
            dots.append(charts.Dots(title(name), shares, titles, middle, f"{middle:.0%}", place, css[name]))
        spoken = "; ".join(f"{row.name} median {row.number} over {len(row.values)} shapes" for row in dots)
        label = f"Dots: share of the limit of the machine, {op}, {dtype}, batch {batch}; {spoken}"
        panels.append(Panel(f"batch {batch}", charts.strips(dots, label, most=_WIDEST_SHARE, ticks=_TICKS)))
    caption = (
        "A dot a shape. The limit is the longer of a copy of as many bytes and the work at the rate of a large matrix "
        "product. Upright and at the right: the median."
    )
    return Figure(f"{op}: share of the limit that binds, {dtype}", caption, panels)


def roofline_figure(rows: Sequence[Row], dtype: str) -> Figure | None:
    """effops' ops under the roofs, a panel a batch, with the fastest peer of every shape; None without such rows."""
    found = points(rows)
    if not found:
        return None
    roofs = Roofs.of(rows)
    ops = list(dict.fromkeys(row.op for row, _ in found))
    panels = []
    for batch in sorted({row.batch for row, _ in found}):
        here = [pair for pair in found if pair[0].batch == batch]
        peers = [_spot(peer, ops, "hollow") for _, peer in here if peer is not None]
        own = [_spot(row, ops, f"mark p{ops.index(row.op) % 8}") for row, _ in here]
        best, worst = max(row.gflops for row, _ in here), min(row.gflops for row, _ in here)
        label = (
            f"Roofline of {several(ops)}, {dtype}, batch {batch}: {len(own)} shapes of effops, from {number(worst)} to "
            f"{number(best)} GFLOP/s; the copy runs at {roofs.copy_gbps:.0f} GB/s, a matrix product at "
            f"{roofs.gemm_gflops:.0f} GFLOP/s"
        )
        panels.append(Panel(f"batch {batch}", charts.roofline([*peers, *own], roofs, label)))
    legend = [Key(op, f"mark p{place % 8}", shape(place)) for place, op in enumerate(ops)]
    if any(peer for _, peer in found):
        legend.append(Key("fastest peer at that shape", "hollow", shape(0)))
    caption = "GFLOP/s against multiply-accumulates a byte, both logarithmic. The lines are what the machine can do."
    return Figure(f"Roofline, {dtype}", caption, panels, legend)


def _spot(row: Row, ops: Sequence[str], css: str) -> charts.Spot:
    about = f"{title(row.provider)}, {row.case}: {number(row.gflops)} GFLOP/s, {number(row.gbps)} GB/s"
    return charts.Spot(intensity(row), row.gflops, ops.index(row.op), css, about)


def _ops_table(rows: Sequence[Row], dtype: str) -> Table:
    names = providers(rows)
    peers = [name for name in names if name != SUBJECT]
    body = []
    for found in grouped(rows).values():
        row = found.get(SUBJECT) or next(iter(found.values()))
        timed = row.provider == SUBJECT and row.p50_ms is not None
        cells = [
            Cell(row.case, row.op if row.op not in row.case else ""),
            Cell(str(row.batch)),
            milliseconds(found.get(SUBJECT)),
            Cell(f"{row.share_of_limit:.0%}", row.limit) if timed and row.share_of_limit is not None else Cell("-"),
            Cell(number(row.gbps), f"copy {number(row.copy_gbps)}")
            if timed and row.gbps and row.copy_gbps
            else Cell("-"),
            Cell(number(row.gflops)) if timed and row.gflops else Cell("-"),
        ]
        for peer in peers:
            ratio = speedup(found, peer)
            cells.append(milliseconds(found.get(peer), "" if ratio is None else times(ratio)))
        body.append(cells)
    head = [
        "shape",
        "batch",
        "effops, ms",
        "of the limit",
        "GB/s",
        "GFLOP/s",
        *(f"{title(peer)}, ms" for peer in peers),
    ]
    return Table(f"All {len(body)} shapes, {dtype}: medians, p20-p80, effops' speed-up", head, body, folded=True)


def ops(rows: Sequence[Row]) -> Section:
    figures, tables = [], []
    for dtype, chosen in by_dtype(rows):
        for op in dict.fromkeys(row.op for row in chosen):
            figures.append(_strip_figure([row for row in chosen if row.op == op], op, dtype))
        figures.append(roofline_figure(chosen, dtype))
        tables.append(_ops_table(chosen, dtype))
    cold = {row.cache for row in rows} == {"cold"}
    lead = [
        "Single ops at the shapes of these networks, beside what the machine can do, measured in the same rounds.",
        "Buffers rotate past the last-level cache." if cold else "",
    ]
    return Section("ops", "Single ops", [text for text in lead if text], [f for f in figures if f], tables)


def kernels(rows: Sequence[Row]) -> Section:
    figures = [roofline_figure(chosen, dtype) for dtype, chosen in by_dtype(rows)]
    tables = [_ops_table(chosen, dtype) for dtype, chosen in by_dtype(rows)]
    lead = ["The rows of the op table one by one, those of training too, in every backend of the device."]
    return Section("kernels", "Kernels, forward and backward", lead, [f for f in figures if f], tables)


def _letters(found: Sequence[Split]) -> dict[str, str]:
    """A letter for every kind, in the order of the bars."""
    kinds = sorted({kind for item in found for kind in item.parts}, key=kind_place)
    return {kind: chr(ord("A") + place % 26) for place, kind in enumerate(kinds)}


def _split_figure(found: Sequence[Split], dtype: str) -> Figure:
    letters = _letters(found)
    css = {kind: f"k{place % 9}" for place, kind in enumerate(letters)}
    panels = []
    for item in found:
        total = max(1.0, sum(item.share(kind) for kind in item.parts))
        pieces = [
            charts.Piece(
                letters[kind],
                item.share(kind) / total,
                css[kind],
                f"{kind_title(kind)}: {number(row.p50_ms)} ms, {item.share(kind):.0%}",
            )
            for kind, row in item.parts.items()
        ]
        label = f"Bar: time of {item.title}, {dtype}, by kind of kernel; " + "; ".join(piece.title for piece in pieces)
        panels.append(Panel(f"{item.title}: {number(item.whole.p50_ms)} ms", charts.stack(pieces, label)))
    legend = [Key(kind_title(kind), f"piece {css[kind]}", letter=letter) for kind, letter in letters.items()]
    caption = "Parts of the time of a call, from left to right in the order of the letters."
    return Figure(f"Where effops' time goes, {dtype}", caption, panels, legend)


def _rate(value: float | None, of: float | None, what: str) -> Cell:
    if not value:
        return Cell("-")
    return Cell(number(value), f"{value / of:.0%} of {what}" if of else "")


def _split_table(found: Sequence[Split], dtype: str) -> Table:
    letters, body = _letters(found), []
    for item in found:
        body.append([Cell(item.title)])
        body.append([Cell("all"), milliseconds(item.whole), Cell("100%"), Cell(), Cell()])
        for kind, row in item.parts.items():
            body.append(
                [
                    Cell(f"{letters[kind]}  {kind_title(kind)}"),
                    milliseconds(row),
                    Cell(f"{item.share(kind):.1%}"),
                    _rate(row.gflops, row.gemm_gflops, "matrix product"),
                    _rate(row.gbps, row.copy_gbps, "copy"),
                ]
            )
    head = ["kind of kernel", "ms", "share", "GFLOP/s", "GB/s"]
    return Table(f"Time by kind of kernel, {dtype}, with the rates that each reaches", head, body)


def split(rows: Sequence[Row]) -> Section:
    figures, tables = [], []
    for dtype, chosen in by_dtype(rows):
        if found := splits(chosen):
            figures.append(_split_figure(found, dtype))
            tables.append(_split_table(found, dtype))
    lead = [
        "torch's profiler tells the time of every op; what a network takes beyond its ops, timed without the profiler, "
        "is Python and the rest.",
        "Rates are over the least work and bytes: inputs read once, outputs written once. What stays in caches can go "
        "faster than the copy, which leaves them.",
    ]
    return Section("split", "Where the time goes", lead, figures, tables)


def anything(suite: str, rows: Sequence[Row]) -> Section:
    """A suite that has no chapter of its own: its times."""
    names, body = providers(rows), []
    for found in grouped(rows).values():
        first = next(iter(found.values()))
        where = f"{first.case}@{first.resolution}" if first.resolution else first.case
        cells = [Cell(where, first.dtype), Cell(str(first.batch))]
        for name in names:
            ratio = None if is_subject(name) else speedup(found, name)
            cells.append(milliseconds(found.get(name), "" if ratio is None else times(ratio)))
        body.append(cells)
    table = Table("Milliseconds: median, p20-p80, effops' speed-up", ["case", "batch", *map(title, names)], body)
    return Section(suite, f"Suite {suite}", [], [], [table])
