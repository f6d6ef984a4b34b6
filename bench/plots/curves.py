"""Figures of curves: latency against batch size and against resolution."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from bench.appearance import MARKERS, colours, title
from bench.errors import BenchError
from bench.record import Row
from bench.scaling import curves, ms_per_image
from bench.selection import SUBJECT
from bench.tables import providers

from .figure import GRID, caption, clean, decade_steps, foot, head, new_figure, save


def _latency(axis: str, rows: Sequence[Row], path: Path) -> Path | None:
    """A panel a network, a line a provider, on logarithmic axes; None where the rows have one place on the axis."""
    timed = [row for row in rows if row.p50_ms is not None]
    if not timed:
        raise BenchError("no network was timed, so there is nothing to draw")
    found = [item for item in curves(timed) if item.axis == axis]
    if not found:
        return None
    names = providers(timed)
    palette = colours(names)
    figure = new_figure(max(6.4, 4.4 * len(found)), 4.6)
    panels = figure.subplots(1, len(found), squeeze=False)[0]
    labelled = {}
    for axes, item in zip(panels, found, strict=True):
        axes.set_xscale("log", base=2)
        axes.set_yscale("log")
        for name, points in item.of.items():
            (labelled[title(name)],) = axes.plot(
                [place for place, _ in points],
                [ms_per_image(row) for _, row in points],
                color=palette[name],
                marker=MARKERS[names.index(name) % len(MARKERS)],
                markersize=5,
                linewidth=2.2 if name == SUBJECT else 1.2,
                zorder=3 if name == SUBJECT else 2,
            )
        places = sorted({place for points in item.of.values() for place, _ in points})
        axes.set_xticks(places, [str(place) for place in places], fontsize=8)
        axes.minorticks_off()
        decade_steps(axes, (1, 2, 3, 4, 5, 6, 8))
        axes.set_xlabel(axis if axis == "batch" else "side of the image", fontsize=9)
        axes.set_title(item.title, fontsize=10)
        axes.grid(axis="both", color=GRID)
        clean(axes)
    panels[0].set_ylabel("ms an image (logarithmic)")
    what = "batch size" if axis == "batch" else "resolution"
    head(figure, list(labelled.values()), list(labelled), f"Latency against {what}: less is better")
    foot(figure, caption(timed))
    return save(figure, path)


against_batch = partial(_latency, "batch")
against_resolution = partial(_latency, "resolution")
