"""Figures made from the CSV alone, so that they can be made again anywhere, without measuring."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from .errors import BenchError
from .noise import NoiseReport
from .record import Row
from .selection import SUBJECT
from .tables import grouped, providers, speedup

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Wong, "Points of view: Color blindness", Nature Methods 8 (2011): distinguishable with every kind of colour
# vision.
_SUBJECT_COLOUR = "#D55E00"
_PEER_COLOURS = ("#0072B2", "#56B4E9", "#009E73", "#E69F00", "#CC79A7", "#F0E442")
_TITLES = {
    "eager": "eager",
    "channels_last": "eager, channels_last",
    "compile": "torch.compile",
}
_DPI = 160
# A disturbed sample of the copy can put a share anywhere; what lies above this is drawn at the edge.
_WIDEST_SHARE = 130


def _title(provider: str) -> str:
    return _TITLES.get(provider, provider)


def _caption(rows: Sequence[Row]) -> str:
    here = rows[0].environment
    isa = f"effops on {here.isa}" if here.isa != "none" else "effops without its C++ kernels"
    noise = "; NOISY machine" if NoiseReport.of(rows).noisy else ""
    return (
        f"{here.cpu}, {here.threads} threads, {rows[0].dtype}, {isa}, "
        f"torch {here.torch} on {here.torch_isa}\n"
        f"medians of {rows[0].rounds} interleaved rounds, {here.date[:10]}{noise}"
    )


def _new_figure(width: float, height: float) -> Figure:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    return figure


def _save(figure: Figure, path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.stem}.{os.getpid()}{path.suffix}")
    try:
        figure.savefig(unfinished, dpi=_DPI)
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)
    return path


def _head(figure: Figure, handles: Sequence, labels: Sequence[str], title: str) -> None:
    """One legend for all panels; its title is the headline."""
    figure.legend(
        handles,
        labels,
        title=title,
        loc="outside upper center",
        ncols=len(labels),
        frameon=False,
        fontsize=10,
        title_fontproperties={"size": 12, "weight": "bold"},
    )


def _clean(axes: Axes) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_axisbelow(True)


def _speedup_bars(axes: Axes, problems: Sequence[dict[str, Row]], peers: Sequence[str]) -> None:
    width = 0.8 / len(peers)
    for place, peer in enumerate(peers):
        ratios = [(index, speedup(by_provider, peer)) for index, by_provider in enumerate(problems)]
        known = [(index + (place - (len(peers) - 1) / 2) * width, ratio) for index, ratio in ratios if ratio]
        if not known:
            continue
        positions, heights = zip(*known, strict=True)
        colour = _PEER_COLOURS[place % len(_PEER_COLOURS)]
        bars = axes.bar(positions, heights, width * 0.92, color=colour, label=_title(peer))
        axes.bar_label(bars, fmt="%.2f", fontsize=8, padding=1)
    labels = [next(iter(by_provider.values())) for by_provider in problems]
    axes.set_xticks(range(len(problems)), [f"{row.case}\n@{row.resolution}" for row in labels], fontsize=8)
    axes.axhline(1, color="#444444", linewidth=1)
    axes.grid(axis="y", color="#E4E4E4")
    _clean(axes)


def models_speedup(rows: Sequence[Row], path: Path) -> Path:
    """Bars: how many times faster effops is than every peer, a group a network, a panel a batch size."""
    timed = [row for row in rows if row.p50_ms is not None]
    peers = [name for name in providers(timed) if name != SUBJECT]
    problems = [found for found in grouped(timed).values() if SUBJECT in found and len(found) > 1]
    if not problems:
        raise BenchError("no network was timed with effops and a peer, so there is nothing to draw")
    batches = sorted({found[SUBJECT].batch for found in problems})
    widest = max(sum(found[SUBJECT].batch == batch for found in problems) for batch in batches)
    figure = _new_figure(2.2 + len(batches) * widest * 1.35, 4.2)
    panels = figure.subplots(1, len(batches), sharey=True, squeeze=False)[0]
    for axes, batch in zip(panels, batches, strict=True):
        _speedup_bars(axes, [found for found in problems if found[SUBJECT].batch == batch], peers)
        axes.set_title(f"batch {batch}", fontsize=10)
    panels[0].set_ylabel("time of the peer / time of effops")
    handles, labels = panels[0].get_legend_handles_labels()
    _head(figure, handles, labels, "Whole networks in eval: effops is so many times faster than")
    figure.supxlabel(_caption(timed), fontsize=7, color="#555555")
    return _save(figure, path)


def _limit_dots(axes: Axes, problems: Sequence[dict[str, Row]], names: Sequence[str]) -> None:
    for place, name in enumerate(names):
        known = [(found[name].share_of_limit, index) for index, found in enumerate(problems) if name in found]
        if not known:
            continue
        shares, positions = zip(*known, strict=True)
        subject = name == SUBJECT
        axes.scatter(
            [min(100 * share, _WIDEST_SHARE) for share in shares],
            positions,
            s=34 if subject else 20,
            color=_SUBJECT_COLOUR if subject else _PEER_COLOURS[(place - 1) % len(_PEER_COLOURS)],
            label=_title(name),
            zorder=3 if subject else 2,
        )
    rows = [next(iter(found.values())) for found in problems]
    marks = {"bandwidth": "B", "arithmetic": "A"}
    axes.set_yticks(range(len(rows)), [f"{row.case}  {marks[row.limit]}" for row in rows], fontsize=7)
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.set_xlim(0, _WIDEST_SHARE)
    axes.axvline(100, color="#444444", linewidth=1)
    axes.grid(axis="both", color="#E9E9E9")
    _clean(axes)


def ops_limit(rows: Sequence[Row], path: Path) -> Path:
    """Dots: the share of the machine's limit that every provider reaches, a line a shape, a panel a batch."""
    timed = [row for row in rows if row.share_of_limit is not None]
    if not timed:
        raise BenchError("no op was timed, so there is nothing to draw")
    names = providers(timed)
    problems = list(grouped(timed).values())
    batches = sorted({row.batch for row in timed})
    panels_of = {batch: [found for found in problems if next(iter(found.values())).batch == batch] for batch in batches}
    longest = max(len(found) for found in panels_of.values())
    figure = _new_figure(max(7.0, 6.2 * len(batches)), 2.2 + 0.17 * max(longest, 6))
    panels = figure.subplots(1, len(batches), squeeze=False)[0]
    for axes, (batch, found) in zip(panels, panels_of.items(), strict=True):
        _limit_dots(axes, found, names)
        axes.set_title(f"batch {batch}", fontsize=10)
        axes.set_xlabel("% of the limit that binds", fontsize=9)
    handles, labels = panels[0].get_legend_handles_labels()
    _head(figure, handles, labels, f"{timed[0].op}: share of the limit of the machine")
    figure.supxlabel(
        "B: the bandwidth of a copy of as many bytes binds. A: the rate of a large matrix product binds.\n"
        f"Buffers {'rotate past' if timed[0].cache == 'cold' else 'stay in'} the last-level cache.\n"
        f"{_caption(timed)}",
        fontsize=7,
        color="#555555",
    )
    return _save(figure, path)


_FIGURES = {"models": ("models_speedup", models_speedup), "ops": ("ops_limit", ops_limit)}


def plot(rows: Sequence[Row], folder: Path) -> list[Path]:
    """Draw models_speedup.png, and an ops_limit_OP.png for every op; dtypes other than float32 add a suffix.

    Raises:
        BenchError: matplotlib is not installed, or nothing was timed.
    """
    try:
        import matplotlib  # noqa: F401 - asked for before the first figure, for a readable error
    except ImportError as error:
        raise BenchError(f"plots need matplotlib ({error}): pip install -r requirements/bench.txt") from error
    paths = []
    for suite, op, dtype in dict.fromkeys((row.suite, row.op, row.dtype) for row in rows):
        name, draw = _FIGURES[suite]
        parts = [name, op, "" if dtype == "float32" else dtype]
        chosen = [row for row in rows if (row.suite, row.op, row.dtype) == (suite, op, dtype)]
        paths.append(draw(chosen, folder / f"{'_'.join(part for part in parts if part)}.png"))
    return paths
