"""The chapters on networks: in eval, in training, and at many sizes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from bench.appearance import problem_title, title
from bench.cliffs import THRESHOLD, Sweep, sweeps
from bench.record import Row
from bench.scaling import Curves, ms_per_image
from bench.scaling import curves as curves_of
from bench.selection import SUBJECT, is_subject
from bench.tables import TRAINING_BASELINES, fastest_peer, grouped, providers, speedup

from . import charts, wording
from .page import Cell, Figure, Panel, Section, Table
from .wording import css_of, legend, milliseconds, number, ratio_cell, times

Problems = dict[tuple, dict[str, Row]]
# A ratio axis that ends before this would make 1.1 look like much.
_LEAST_RATIO = 1.6


def by_dtype(rows: Sequence[Row]) -> Iterator[tuple[str, list[Row]]]:
    """Rows by dtype, the widest first."""
    for dtype in sorted({row.dtype for row in rows}, key=lambda name: (name != "float32", name)):
        yield dtype, [row for row in rows if row.dtype == dtype]


def taking_part(rows: Sequence[Row]) -> list[str]:
    """Providers that have more than reasons to be skipped."""
    return providers([row for row in rows if row.status != "skipped"])


def _batches(problems: Problems) -> list[int]:
    return sorted({row.batch for found in problems.values() for row in found.values()})


def _first(found: dict[str, Row]) -> Row:
    return next(iter(found.values()))


def _of_batch(problems: Problems, batch: int) -> list[dict[str, Row]]:
    return [found for found in problems.values() if _first(found).batch == batch]


def _speedup_groups(problems: Sequence[dict[str, Row]], peers: Sequence[str]) -> list[tuple[str, list[charts.Bar]]]:
    groups = []
    for found in problems:
        ratios = [(peer, speedup(found, peer)) for peer in peers]
        bars = [
            charts.Bar(
                title(peer),
                ratio,
                times(ratio) if ratio >= 1 else f"{times(ratio)} behind",
                "own" if ratio >= 1 else "hatched",
                f"{title(peer)}: {number(found[peer].p50_ms)} ms, effops: {number(found[SUBJECT].p50_ms)} ms",
            )
            for peer, ratio in ratios
            if ratio is not None
        ]
        if bars:
            groups.append((problem_title(_first(found)), bars))
    return groups


def _speedup_figure(rows: Sequence[Row], dtype: str) -> Figure | None:
    problems = grouped(rows)
    peers = [name for name in providers(rows) if not is_subject(name)]
    groups_of = {batch: _speedup_groups(_of_batch(problems, batch), peers) for batch in _batches(problems)}
    groups_of = {batch: groups for batch, groups in groups_of.items() if groups}
    if not groups_of:
        return None
    ratios = [bar.value for groups in groups_of.values() for _, bars in groups for bar in bars]
    most = max(_LEAST_RATIO, *ratios)
    panels = [
        Panel(
            f"batch {batch}",
            charts.bars(
                groups,
                f"Bars: how many times faster effops is than each peer, {dtype}, batch {batch}; "
                + "; ".join(
                    f"{name}: {', '.join(f'{bar.name} {bar.number}' for bar in bars)}" for name, bars in groups
                ),
                most=most,
                reference=1,
            ),
        )
        for batch, groups in groups_of.items()
    ]
    caption = "Time of the peer over time of effops, medians. Beyond the line at 1x effops is faster; hatched: slower."
    return Figure(f"Speed-up of effops over each peer, {dtype}", caption, panels)


def _models_table(rows: Sequence[Row], dtype: str) -> Table:
    names = taking_part(rows)
    body = []
    for found in grouped(rows).values():
        first = _first(found)
        cells = [Cell(problem_title(first)), Cell(str(first.batch))]
        for name in names:
            ratio = None if is_subject(name) else speedup(found, name)
            cells.append(milliseconds(found.get(name), "" if ratio is None else times(ratio)))
        body.append(cells)
    head = ["network", "batch", *map(title, names)]
    return Table(f"Milliseconds a call, {dtype}: median, p20-p80, effops' speed-up", head, body)


def models(rows: Sequence[Row]) -> Section:
    found = [(dtype, chosen) for dtype, chosen in by_dtype(rows)]
    tables = [_models_table(chosen, dtype) for dtype, chosen in found]
    figures = [_speedup_figure(chosen, dtype) for dtype, chosen in found]
    sources = sorted({row.network for row in rows if row.network})
    lead = [
        "Each network runs with the same random weights and images in every provider, in eval.",
        f"The peers run: {'; '.join(sources)}." if sources else "",
    ]
    return Section(
        "models",
        "Whole networks in eval",
        [text for text in lead if text],
        [figure for figure in figures if figure],
        tables,
    )


Quantity = Callable[[Row], float | None]


def quantity_panels(rows: Sequence[Row], quantity: Quantity, what: str, shown: Callable[[float], str]) -> list[Panel]:
    """Bars of a quantity for every provider: a group a network, a panel a batch; none where no row has it."""
    known = [row for row in rows if row.status == "ok" and quantity(row) is not None]
    if not known:
        return []
    names, problems = providers(known), grouped(known)
    most = max(quantity(row) for row in known) or 1.0
    panels = []
    for batch in _batches(problems):
        groups = [
            (
                problem_title(_first(found)),
                [
                    charts.Bar(
                        title(name),
                        quantity(found[name]),
                        shown(quantity(found[name])),
                        css_of(names)[name] if is_subject(name) else "peer",
                    )
                    for name in names
                    if name in found
                ],
            )
            for found in _of_batch(problems, batch)
        ]
        spoken = "; ".join(f"{name}: {', '.join(f'{bar.name} {bar.number}' for bar in bars)}" for name, bars in groups)
        svg = charts.bars(groups, f"Bars: {what}, {known[0].dtype}, batch {batch}; {spoken}", most=most)
        panels.append(Panel(f"{what}, batch {batch}", svg))
    return panels


def _train_table(rows: Sequence[Row], dtype: str) -> Table:
    body = []
    for found in grouped(rows).values():
        best, baseline = fastest_peer(found), found.get(TRAINING_BASELINES[0])
        first = _first(found)
        body.append([Cell(f"{problem_title(first)}, batch {first.batch}")])
        for name in taking_part(list(found.values())):
            row = found[name]
            held = row.held_bytes / baseline.held_bytes if baseline and baseline.held_bytes and row.held_bytes else None
            ratio = best.p50_ms / row.p50_ms if best and row.p50_ms else None
            errors = "-" if row.error is None else f"{row.error:.1e}"
            body.append(
                [
                    Cell(title(name), css="own" if is_subject(name) else ""),
                    milliseconds(row),
                    ratio_cell(ratio) if is_subject(name) else Cell("-" if ratio is None else times(ratio)),
                    Cell(
                        "-" if row.held_bytes is None else wording.mebibytes(row.held_bytes),
                        times(held) if held else "",
                    ),
                    Cell("-" if row.peak_bytes is None else wording.mebibytes(row.peak_bytes)),
                    Cell(errors, "" if row.allowed_error is None else f"allowed {row.allowed_error:.1e}"),
                ]
            )
    head = ["provider", "ms a step", "speed-up", "held", "growth at the peak", "error"]
    return Table(f"Training steps, {dtype}: median, p20-p80", head, body)


def train(rows: Sequence[Row]) -> Section:
    figures, tables = [], []
    for dtype, chosen in by_dtype(rows):
        panels = quantity_panels(chosen, lambda row: row.p50_ms, "time of a step", lambda value: f"{number(value)} ms")
        panels += quantity_panels(chosen, lambda row: row.held_bytes, "activations held", wording.mebibytes)
        if panels:
            caption = "Less is better. Held are activations between forward and backward; unknown for torch.compile."
            figures.append(Figure(f"Training step, {dtype}", caption, panels))
        tables.append(_train_table(chosen, dtype))
    lead = [
        "Forward, cross-entropy, backward, SGD with momentum; loss, gradients and batch-norm statistics are verified.",
        "Speed-ups are over the fastest peer; held memory is beside eager's in channels_last. bfloat16 is autocast.",
    ]
    return Section("train", "Training", lead, figures, tables)


def _cliff_cell(sweep: Sweep | None) -> Cell:
    """The point of a sweep that lies highest above its trend."""
    if sweep is None:
        return Cell("-")
    worst = max((point for point in sweep.points if point.above is not None), key=lambda point: point.above)
    bold = "own" if is_subject(sweep.provider) else ""
    return Cell(
        f"{worst.above:+.0%}", f"at {worst.at}{', a cliff' if worst.cliff else ''}", "bad" if worst.cliff else bold
    )


def _cliffs_table(rows: Sequence[Row], names: Sequence[str]) -> Table | None:
    """How far time an image, or a pixel, lies above its trend at most; None where no sweep has three points."""
    found: dict[tuple, dict[str, Sweep]] = {}
    for sweep in sweeps(rows):
        found.setdefault((sweep.network, sweep.fixed, sweep.axis, sweep.dtype), {})[sweep.provider] = sweep
    body = []
    for (network, fixed, axis, dtype), by_provider in found.items():
        if axis == "batch":
            case = Cell(f"{network}@{fixed}", f"{dtype}, an image against batch size")
        else:
            case = Cell(f"{network}, batch {fixed}", f"{dtype}, a pixel against resolution")
        body.append([case, *(_cliff_cell(by_provider.get(name)) for name in names)])
    what = f"Time at the point highest above the trend; a cliff is more than {THRESHOLD:.0%}"
    return Table(what, ["network", *map(title, names)], body) if body else None


def _curve_panel(item: Curves, names: Sequence[str]) -> Panel:
    css = css_of(names)
    found = [
        charts.Curve(
            [(place, ms_per_image(row), f"{title(name)}: {number(ms_per_image(row))} ms") for place, row in points],
            names.index(name),
            css[name],
        )
        for name, points in item.of.items()
    ]
    spoken = "; ".join(
        f"{title(name)} from {number(ms_per_image(points[0][1]))} at {points[0][0]} to "
        f"{number(ms_per_image(points[-1][1]))} at {points[-1][0]}"
        for name, points in item.of.items()
    )
    label = f"Curves: milliseconds an image against {item.axis}, {item.title}, {item.dtype}; {spoken}"
    axis = "batch size" if item.axis == "batch" else "side of the image"
    return Panel(f"{item.title}, {item.dtype}", charts.curves(found, label, axis=axis, unit="ms an image"))


def scaling(rows: Sequence[Row]) -> Section:
    found, names = curves_of(rows), taking_part(rows)
    figures = []
    for axis, what in (("batch", "batch size"), ("resolution", "resolution")):
        panels = [_curve_panel(item, names) for item in found if item.axis == axis]
        if panels:
            caption = "Milliseconds an image, both axes logarithmic. Less is better."
            figures.append(Figure(f"Latency against {what}", caption, panels, legend(names)))
    tables = [_models_table(chosen, dtype) for dtype, chosen in by_dtype(rows)]
    folded = [Table(table.title, table.head, table.rows, folded=True) for table in tables]
    cliffs = _cliffs_table(rows, names)
    lead = [
        "One network at many batch sizes and resolutions. A larger batch should not cost more an image, nor a larger "
        "image more a pixel. The trend at a point is the lower of the point before and of the line between its "
        "neighbours."
    ]
    return Section("scaling", "Latency at many sizes", lead, figures, [*([cliffs] if cliffs else []), *folded])
