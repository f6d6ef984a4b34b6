"""Figures of ops beside the limits of the machine: shares of the limit that binds, and the roofline."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from bench.appearance import MARKERS, PEER_COLOURS, colours, title
from bench.errors import BenchError
from bench.record import Row
from bench.roofline import Roofs, intensity, points
from bench.selection import SUBJECT
from bench.tables import grouped, providers

from .figure import GRID, LINE, caption, clean, decade_steps, foot, head, new_figure, save

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# A disturbed sample of the copy can put a share anywhere; what lies above this is drawn at the edge.
_WIDEST_SHARE = 130


def _limit_dots(axes: Axes, problems: Sequence[dict[str, Row]], names: Sequence[str]) -> None:
    palette = colours(names)
    for place, name in enumerate(names):
        known = [(found[name].share_of_limit, index) for index, found in enumerate(problems) if name in found]
        if not known:
            continue
        shares, positions = zip(*known, strict=True)
        subject = name == SUBJECT
        axes.scatter(
            [min(100 * share, _WIDEST_SHARE) for share in shares],
            positions,
            s=34 if subject else 22,
            color=palette[name],
            marker=MARKERS[place % len(MARKERS)],
            label=title(name),
            zorder=3 if subject else 2,
        )
    rows = [next(iter(found.values())) for found in problems]
    marks = {"bandwidth": "B", "arithmetic": "A"}
    axes.set_yticks(range(len(rows)), [f"{row.case}  {marks[row.limit]}" for row in rows], fontsize=7)
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.set_xlim(0, _WIDEST_SHARE)
    axes.axvline(100, color=LINE, linewidth=1)
    axes.grid(axis="both", color=GRID)
    clean(axes)


def _cache(rows: Sequence[Row]) -> str:
    return f"Buffers {'rotate past' if rows[0].cache == 'cold' else 'stay in'} the last-level cache."


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
    figure = new_figure(max(7.0, 6.2 * len(batches)), 2.2 + 0.17 * max(longest, 6))
    panels = figure.subplots(1, len(batches), squeeze=False)[0]
    for axes, (batch, found) in zip(panels, panels_of.items(), strict=True):
        _limit_dots(axes, found, names)
        axes.set_title(f"batch {batch}", fontsize=10)
        axes.set_xlabel("% of the limit that binds", fontsize=9)
    handles, labels = panels[0].get_legend_handles_labels()
    head(figure, handles, labels, f"{timed[0].op}: share of the limit of the machine")
    foot(
        figure,
        "B: the bandwidth of a copy of as many bytes binds. A: the rate of a large matrix product binds.\n"
        f"{_cache(timed)}\n{caption(timed)}",
    )
    return save(figure, path)


def _draw_roofs(axes: Axes, roofs: Roofs, low: float, high: float) -> None:
    """The slanted roof of the copy and the flat one of the matrix product, each with its number."""
    corners = [low, *([roofs.ridge] if low < roofs.ridge < high else []), high]
    axes.plot(corners, [roofs.at(x) for x in corners], color=LINE, linewidth=1.2, zorder=1)
    about = {"fontsize": 8, "color": LINE, "va": "bottom", "zorder": 5}
    axes.annotate(
        f"copy, {roofs.copy_gbps:.0f} GB/s",
        (low, roofs.at(low)),
        xytext=(14, 12),
        textcoords="offset points",
        rotation=45,
        rotation_mode="anchor",
        transform_rotates_text=True,
        **about,
    )
    axes.annotate(
        f"matrix product, {roofs.gemm_gflops:.0f} GFLOP/s",
        (high, roofs.at(high)),
        xytext=(-4, 3),
        textcoords="offset points",
        ha="right",
        **about,
    )


def roofline(rows: Sequence[Row], path: Path) -> Path:
    """GFLOP/s against MACs a byte, log-log, under the roofs of this run: effops filled, a mark an op, a panel a
    batch; the fastest peer of every shape hollow."""
    found = points(rows)
    if not found:
        raise BenchError("no op was timed with its work and bytes, so there is no roofline to draw")
    roofs = Roofs.of(rows)
    ops = list(dict.fromkeys(row.op for row, _ in found))
    batches = sorted({row.batch for row, _ in found})
    low = 2 ** math.floor(math.log2(min(intensity(row) for row, _ in found)) - 0.3)
    high = max(2 ** math.ceil(math.log2(max(intensity(row) for row, _ in found)) + 0.3), 2 * roofs.ridge)
    figure = new_figure(max(7.0, 5.6 * len(batches)), 5.0)
    panels = figure.subplots(1, len(batches), sharey=True, squeeze=False)[0]
    for axes, batch in zip(panels, batches, strict=True):
        axes.set_xscale("log", base=2)
        axes.set_yscale("log")
        for place, op in enumerate(ops):
            here = [pair for pair in found if pair[0].op == op and pair[0].batch == batch]
            colour, marker = PEER_COLOURS[place % len(PEER_COLOURS)], MARKERS[place % len(MARKERS)]
            peers = [peer for _, peer in here if peer is not None]
            axes.scatter(
                [intensity(peer) for peer in peers],
                [peer.gflops for peer in peers],
                s=20,
                marker=marker,
                facecolors="none",
                edgecolors="#8A8A8A",
                zorder=2,
            )
            axes.scatter(
                [intensity(row) for row, _ in here],
                [row.gflops for row, _ in here],
                s=30,
                marker=marker,
                color=colour,
                edgecolors="white",
                linewidths=0.4,
                zorder=3,
                label=op,
            )
        _draw_roofs(axes, roofs, low, high)
        axes.set_xlim(low, high)
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
        decade_steps(axes)
        axes.grid(axis="both", color=GRID)
        axes.set_title(f"batch {batch}", fontsize=10)
        axes.set_xlabel("multiply-accumulates a byte", fontsize=9)
        clean(axes)
    panels[0].set_ylabel("GFLOP/s")
    handles, labels = panels[0].get_legend_handles_labels()
    head(figure, handles, labels, "Roofline: what a shape reaches, beside what the machine can do")
    hollow = "Filled: effops. Hollow: the fastest peer at that shape." if any(peer for _, peer in found) else ""
    foot(figure, f"{hollow} {_cache(rows)}\n{caption([row for row, _ in found])}".strip())
    return save(figure, path)
