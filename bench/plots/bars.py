"""Figures of bars: speed-ups of networks, and times, memory and cold start of every provider."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from bench.appearance import colours, title
from bench.errors import BenchError
from bench.record import Row
from bench.selection import is_subject
from bench.tables import grouped, providers, speedup

from .figure import GRID, LINE, caption, clean, foot, head, new_figure, save

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Numbers over bars that stand closer would run into each other; there they stand upright.
_INCHES_OF_NUMBER = 0.36
# Of a letter of a network's name.
_INCHES_OF_LETTER = 0.068
# A figure of more inches is too small to read on a page.
_WIDEST = 18
Quantity = Callable[[Row], float | None]


def _of_batch(problems: Sequence[dict[str, Row]]) -> dict[int, list[dict[str, Row]]]:
    """Problems by batch size, small first."""
    batch_of = {id(found): next(iter(found.values())).batch for found in problems}
    return {
        batch: [found for found in problems if batch_of[id(found)] == batch] for batch in sorted(set(batch_of.values()))
    }


def _name_problems(axes: Axes, problems: Sequence[dict[str, Row]], groups: int) -> None:
    rows = [next(iter(found.values())) for found in problems]
    axes.set_xticks(range(len(rows)), [f"{row.case}\n@{row.resolution}" for row in rows], fontsize=8)
    axes.set_xlim(-0.6, groups - 0.4)
    axes.grid(axis="y", color=GRID)
    clean(axes)


def _grouped_bars(
    axes: Axes,
    problems: Sequence[dict[str, Row]],
    names: Sequence[str],
    height: Callable[[dict[str, Row], str], float | None],
    number: str,
    upright: bool,
    groups: int,
) -> None:
    """A group of bars for every problem, one bar a provider that has a height, with room for so many groups."""
    width = 0.86 / len(names)
    palette = colours(names)
    placed = {"rotation": 90, "padding": 3} if upright else {"padding": 2}
    for place, name in enumerate(names):
        heights = {index: height(found, name) for index, found in enumerate(problems)}
        heights = {index: value for index, value in heights.items() if value is not None}
        if not heights:
            continue
        positions = [index + (place - (len(names) - 1) / 2) * width for index in heights]
        bars = axes.bar(
            positions, list(heights.values()), width * 0.92, color=palette[name], label=title(name), zorder=2
        )
        for text in axes.bar_label(bars, fmt=number, fontsize=8, zorder=4, **placed):
            # Lines of the grid do not run through numbers.
            text.set_bbox({"facecolor": "white", "edgecolor": "none", "pad": 0.6})
    axes.margins(y=0.2 if upright else 0.1)
    _name_problems(axes, problems, groups)


def _panels(
    rows: Sequence[Row],
    path: Path,
    names: Sequence[str],
    height: Callable[[dict[str, Row], str], float | None],
    *,
    unit: str,
    headline: str,
    number: str,
    same_scale: bool,
    reference: float | None = None,
) -> Path:
    """A panel a batch size, side by side or below each other; a group of bars a network."""
    known = [found for found in grouped(rows).values() if any(height(found, name) is not None for name in names)]
    panels_of = _of_batch(known)
    widest = max(len(found) for found in panels_of.values())
    groups = len(panels_of) * widest
    # A group is as wide as its bars, or as its name.
    inches = max(0.3 + 0.22 * len(names), 0.1 + _INCHES_OF_LETTER * max(len(row.case) for row in rows))
    width = max(7.6, 1.4 + groups * inches)
    below = width > _WIDEST
    if below:
        groups = widest
        width = max(7.6, 1.4 + groups * inches)
    shape = (len(panels_of), 1) if below else (1, len(panels_of))
    figure = new_figure(width, 1.0 + 3.6 * shape[0])
    panels = figure.subplots(*shape, sharey=same_scale, squeeze=False).flatten()
    labelled = {}
    for axes, (batch, found) in zip(panels, panels_of.items(), strict=True):
        upright = 0.86 * (width - 1.4) / groups / len(names) < _INCHES_OF_NUMBER
        # Below each other, bars of all panels are as wide as those of the fullest.
        _grouped_bars(axes, found, names, height, number, upright, widest if below else len(found))
        axes.set_title(f"batch {batch}", fontsize=10)
        if reference is not None:
            axes.axhline(reference, color=LINE, linewidth=1, zorder=3)
        handles, labels = axes.get_legend_handles_labels()
        labelled |= dict(zip(labels, handles, strict=True))
    for axes in panels if below else panels[:1]:
        axes.set_ylabel(unit)
    head(figure, list(labelled.values()), list(labelled), headline)
    foot(figure, caption(rows))
    return save(figure, path)


def models_speedup(rows: Sequence[Row], path: Path) -> Path:
    """How many times faster effops is than every peer, a group a network, a panel a batch size."""
    timed = [row for row in rows if row.p50_ms is not None]
    peers = [name for name in providers(timed) if not is_subject(name)]
    if not any(speedup(found, peer) for found in grouped(timed).values() for peer in peers):
        raise BenchError("no network was timed with effops and a peer, so there is nothing to draw")
    return _panels(
        timed,
        path,
        peers,
        speedup,
        unit="time of the peer / time of effops",
        headline="Whole networks in eval: effops is so many times faster than",
        number="%.2f",
        same_scale=True,
        reference=1,
    )


def _quantities(rows: Sequence[Row], path: Path, quantity: Quantity, unit: str, headline: str, number: str) -> Path:
    known = [row for row in rows if row.status == "ok" and quantity(row) is not None]
    if not known:
        raise BenchError(f"no row of suite {rows[0].suite} has {unit}, so there is nothing to draw")
    return _panels(
        known,
        path,
        providers(known),
        lambda found, name: quantity(found[name]) if name in found else None,
        unit=unit,
        headline=headline,
        number=number,
        same_scale=False,
    )


def _held(row: Row) -> float | None:
    return None if row.held_bytes is None else row.held_bytes / 2**20


def _peak(row: Row) -> float | None:
    return None if row.peak_bytes is None else row.peak_bytes / 2**20


def train_step(rows: Sequence[Row], path: Path) -> Path:
    """Milliseconds of a training step."""
    return _quantities(rows, path, lambda row: row.p50_ms, "ms a step", "Training step: less is better", "%.0f")


def train_memory(rows: Sequence[Row], path: Path) -> Path:
    """MiB of activations held between forward and backward."""
    headline = "Activations held between forward and backward: less is better"
    return _quantities(rows, path, _held, "MiB held", headline, "%.0f")


def cold_start(rows: Sequence[Row], path: Path) -> Path:
    """Seconds until the first result."""
    headline = "Cold start, until the first result: less is better"
    return _quantities(rows, path, lambda row: row.prepare_s, "seconds", headline, "%.2g")


def memory(rows: Sequence[Row], path: Path) -> Path:
    """MiB at the peak of an inference."""
    return _quantities(rows, path, _peak, "MiB at the peak", "Peak memory of an inference: less is better", "%.0f")
