"""What all figures share: the canvas, the headline with its legend, the caption, and how they are saved."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from bench.noise import NoiseReport
from bench.record import Row

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_DPI = 160
GRID = "#E4E4E4"
LINE = "#444444"
# Inches of an entry of the legend: its mark, and a letter of its text.
_INCHES_OF_MARK, _INCHES_OF_LETTER = 0.65, 0.078


def caption(rows: Sequence[Row]) -> str:
    """Machine, software, rounds and date of a run, in two lines."""
    here = rows[0].environment
    isa = f"effops on {here.isa}" if here.isa != "none" else "effops without its C++ kernels"
    on_cpu = here.device == "cpu"
    machine = f"{here.cpu}, {here.threads} threads" if on_cpu else here.device
    software = f"{isa}, torch {here.torch} on {here.torch_isa}" if on_cpu else f"torch {here.torch}"
    noise = "; NOISY machine" if NoiseReport.of(rows).noisy else ""
    autocast = " autocast" if rows[0].suite == "train" and rows[0].dtype != "float32" else ""
    rounds = sorted({row.rounds for row in rows if row.rounds is not None})
    counts = f"{rounds[0]}" if len(rounds) == 1 else f"{rounds[0]} to {rounds[-1]}" if rounds else "single"
    return (
        f"{machine}, {rows[0].dtype}{autocast}, {software}\n"
        f"medians of {counts} interleaved rounds, {here.date[:10]}{noise}"
    )


def new_figure(width: float, height: float) -> Figure:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    return figure


def save(figure: Figure, path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.stem}.{os.getpid()}{path.suffix}")
    try:
        figure.savefig(unfinished, dpi=_DPI)
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)
    return path


def head(figure: Figure, handles: Sequence, labels: Sequence[str], title: str) -> None:
    """One legend for all panels, in as many columns as fit; its title is the headline."""
    widths = [_INCHES_OF_MARK + _INCHES_OF_LETTER * len(label) for label in labels]
    fits = sum(widths) < figure.get_figwidth()
    columns = len(labels) if fits else max(1, int(figure.get_figwidth() / max(widths)))
    figure.legend(
        handles,
        labels,
        title=title,
        loc="outside upper center",
        ncols=columns,
        frameon=False,
        fontsize=10,
        title_fontproperties={"size": 12, "weight": "bold"},
    )


def foot(figure: Figure, text: str) -> None:
    figure.supxlabel(text, fontsize=7, color="#555555")


def decade_steps(axes: Axes, steps: Sequence[int] = (1, 2, 5)) -> None:
    """Plain numbers at these steps of every decade of a logarithmic upward axis."""
    from matplotlib.ticker import LogLocator, NullFormatter

    axes.yaxis.set_major_locator(LogLocator(base=10, subs=steps))
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.yaxis.set_minor_formatter(NullFormatter())


def clean(axes: Axes) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_axisbelow(True)
