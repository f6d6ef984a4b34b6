"""Figures made from the CSV alone, so that they can be made again anywhere, without measuring."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from .errors import BenchError
from .noise import NoiseReport
from .record import Row
from .selection import SUBJECT, is_subject
from .tables import grouped, providers, speedup

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Wong, "Points of view: Color blindness", Nature Methods 8 (2011): distinguishable with every kind of colour
# vision.
_SUBJECT_COLOURS = {SUBJECT: "#D55E00", f"{SUBJECT}_low": "#EE9B66"}
_PEER_COLOURS = ("#0072B2", "#56B4E9", "#009E73", "#E69F00", "#CC79A7", "#F0E442")
_TITLES = {
    "eager": "eager",
    "channels_last": "eager, channels_last",
    "compile": "torch.compile",
    "freezing": "torch.compile, frozen",
    "onnxruntime": "ONNX Runtime",
    "openvino": "OpenVINO",
    "effops_low": "effops, low memory",
}
_DPI = 160
# A disturbed sample of the copy can put a share anywhere; what lies above this is drawn at the edge.
_WIDEST_SHARE = 130


def _title(provider: str) -> str:
    return _TITLES.get(provider, provider)


def _caption(rows: Sequence[Row]) -> str:
    here = rows[0].environment
    isa = f"effops on {here.isa}" if here.isa != "none" else "effops without its C++ kernels"
    on_cpu = here.device == "cpu"
    machine = f"{here.cpu}, {here.threads} threads" if on_cpu else here.device
    software = f"{isa}, torch {here.torch} on {here.torch_isa}" if on_cpu else f"torch {here.torch}"
    noise = "; NOISY machine" if NoiseReport.of(rows).noisy else ""
    autocast = " autocast" if rows[0].suite == "train" and rows[0].dtype != "float32" else ""
    rounds = sorted({row.rounds for row in rows})
    counts = f"{rounds[0]}" if len(rounds) == 1 else f"{rounds[0]} to {rounds[-1]}"
    return (
        f"{machine}, {rows[0].dtype}{autocast}, {software}\n"
        f"medians of {counts} interleaved rounds, {here.date[:10]}{noise}"
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
        # Upright where bars stand so close that numbers would run into each other.
        upright = {"rotation": 90, "padding": 2} if len(peers) > 4 else {"padding": 1}
        axes.bar_label(bars, fmt="%.2f", fontsize=8, **upright)
    axes.margins(y=0.12)
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
            color=_SUBJECT_COLOURS[SUBJECT] if subject else _PEER_COLOURS[(place - 1) % len(_PEER_COLOURS)],
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


def _colours(names: Sequence[str]) -> dict[str, str]:
    peers = [name for name in names if not is_subject(name)]
    return {name: _PEER_COLOURS[place % len(_PEER_COLOURS)] for place, name in enumerate(peers)} | _SUBJECT_COLOURS


def _quantity_bars(
    axes: Axes, problems: Sequence[dict[str, Row]], names: Sequence[str], quantity: Callable[[Row], float | None]
) -> None:
    width = 0.84 / len(names)
    colours = _colours(names)
    for place, name in enumerate(names):
        heights = {index: quantity(found[name]) for index, found in enumerate(problems) if name in found}
        heights = {index: height for index, height in heights.items() if height is not None}
        if not heights:
            continue
        positions = [index + (place - (len(names) - 1) / 2) * width for index in heights]
        bars = axes.bar(positions, list(heights.values()), width * 0.92, color=colours[name], label=_title(name))
        axes.bar_label(bars, fmt="%.0f", fontsize=8, padding=1)
    labels = [next(iter(found.values())) for found in problems]
    axes.set_xticks(range(len(problems)), [f"{row.case}\n@{row.resolution}" for row in labels], fontsize=8)
    axes.grid(axis="y", color="#E4E4E4")
    _clean(axes)


def _training_figure(
    rows: Sequence[Row], path: Path, quantity: Callable[[Row], float | None], unit: str, title: str
) -> Path:
    """Bars: a quantity of every provider's training step, a group a network, a panel a batch size."""
    known = [row for row in rows if row.p50_ms is not None and quantity(row) is not None]
    if not known:
        raise BenchError(f"no training step has {unit}, so there is nothing to draw")
    names = providers(known)
    problems = list(grouped(known).values())
    batches = sorted({row.batch for row in known})
    panels_of = {batch: [found for found in problems if next(iter(found.values())).batch == batch] for batch in batches}
    widest = max(len(found) for found in panels_of.values())
    figure = _new_figure(max(7.0, 1.6 + len(batches) * widest * (0.8 + 0.45 * len(names))), 4.2)
    panels = figure.subplots(1, len(batches), squeeze=False)[0]
    for axes, (batch, found) in zip(panels, panels_of.items(), strict=True):
        _quantity_bars(axes, found, names, quantity)
        axes.set_title(f"batch {batch}", fontsize=10)
    panels[0].set_ylabel(unit)
    handles, labels = panels[0].get_legend_handles_labels()
    _head(figure, handles, labels, title)
    figure.supxlabel(_caption(known), fontsize=7, color="#555555")
    return _save(figure, path)


def train_step(rows: Sequence[Row], path: Path) -> Path:
    """Bars: milliseconds of a training step."""
    return _training_figure(rows, path, lambda row: row.p50_ms, "ms a step", "Training step: less is better")


def train_memory(rows: Sequence[Row], path: Path) -> Path:
    """Bars: MiB of activations held between forward and backward."""
    title = "Activations held between forward and backward: less is better"
    return _training_figure(rows, path, _held_mebibytes, "MiB held", title)


def _held_mebibytes(row: Row) -> float | None:
    return None if row.held_bytes is None else row.held_bytes / 2**20


_FIGURES = {
    "models": {"models_speedup": models_speedup},
    "ops": {"ops_limit": ops_limit},
    "train": {"train_step": train_step, "train_memory": train_memory},
}


def plot(rows: Sequence[Row], folder: Path) -> list[Path]:
    """Draw models_speedup.png, an ops_limit_OP.png for every op, train_step.png and train_memory.png; dtypes
    other than float32 add a suffix.

    Raises:
        BenchError: matplotlib is not installed, or nothing was timed.
    """
    try:
        import matplotlib  # noqa: F401 - asked for before the first figure, for a readable error
    except ImportError as error:
        raise BenchError(f"plots need matplotlib ({error}): pip install -r requirements/bench.txt") from error
    paths = []
    for suite, op, dtype in dict.fromkeys((row.suite, row.op, row.dtype) for row in rows):
        chosen = [row for row in rows if (row.suite, row.op, row.dtype) == (suite, op, dtype)]
        for name, draw in _FIGURES[suite].items():
            parts = [name, op, "" if dtype == "float32" else dtype]
            paths.append(draw(chosen, folder / f"{'_'.join(part for part in parts if part)}.png"))
    return paths
