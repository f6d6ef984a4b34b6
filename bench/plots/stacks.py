"""The figure of stacked bars: where the time of a network goes, by kind of kernel."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from bench.appearance import PEER_COLOURS, SUBJECT_COLOURS, kind_title
from bench.errors import BenchError
from bench.record import Row
from bench.selection import SUBJECT
from bench.splits import splits

from .figure import GRID, caption, clean, foot, head, new_figure, save

_COLOURS = (SUBJECT_COLOURS[SUBJECT], *PEER_COLOURS)
_HATCHES = ("", "//", "..", "\\\\", "xx", "--", "++", "oo", "||")
# Percent of a bar that holds its number.
_FITS = 5


def time_split(rows: Sequence[Row], path: Path) -> Path:
    """A bar a network and batch, a piece a kind of kernel, in per cent of the network's time."""
    found = splits(rows)
    if not found:
        raise BenchError("no network was split, so there is nothing to draw")
    kinds = list(dict.fromkeys(kind for item in found for kind in item.parts))
    figure = new_figure(9.0, 1.9 + 0.62 * len(found))
    axes = figure.subplots()
    begins = [0.0] * len(found)
    for place, kind in enumerate(kinds):
        shares = [100 * item.share(kind) for item in found]
        colour = _COLOURS[place % len(_COLOURS)]
        bars = axes.barh(
            range(len(found)),
            shares,
            left=begins,
            height=0.62,
            color=colour,
            edgecolor="white",
            hatch=_HATCHES[place % len(_HATCHES)],
            label=kind_title(kind),
        )
        numbers = [f"{share:.0f}" if share >= _FITS else "" for share in shares]
        for text in axes.bar_label(bars, numbers, label_type="center", fontsize=8):
            if text.get_text():
                text.set_bbox({"facecolor": "white", "edgecolor": "none", "pad": 1.0, "alpha": 0.85})
        begins = [begin + share for begin, share in zip(begins, shares, strict=True)]
    labels = [f"{item.title}\n{item.whole.p50_ms:.3g} ms" for item in found]
    axes.set_yticks(range(len(found)), labels, fontsize=8)
    axes.invert_yaxis()
    axes.set_xlim(0, max(100.0, *begins))
    axes.set_xlabel("% of the time of the network", fontsize=9)
    axes.grid(axis="x", color=GRID)
    clean(axes)
    handles, labels = axes.get_legend_handles_labels()
    head(figure, handles, labels, "Where effops' time goes in eval, by kind of kernel")
    foot(figure, caption([item.whole for item in found]))
    return save(figure, path)
