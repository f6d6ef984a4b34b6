"""Figures made from the CSV alone, so that they can be made again anywhere, without measuring."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.errors import BenchError
from bench.record import Row

from . import bars, curves, limits, stacks


@dataclass(frozen=True)
class _Kind:
    """One kind of figure: what its file is called, how it is drawn, and whether every op has one of its own."""

    name: str
    draw: Callable[[Sequence[Row], Path], Path | None]
    an_op: bool = False


_FIGURES = {
    "models": (_Kind("models_speedup", bars.models_speedup),),
    "ops": (_Kind("ops_limit", limits.ops_limit, an_op=True), _Kind("ops_roofline", limits.roofline)),
    "kernels": (_Kind("kernels_roofline", limits.roofline),),
    "train": (_Kind("train_step", bars.train_step), _Kind("train_memory", bars.train_memory)),
    "scaling": (
        _Kind("scaling_batch", curves.against_batch),
        _Kind("scaling_resolution", curves.against_resolution),
    ),
    "split": (_Kind("split", stacks.time_split),),
    "coldstart": (_Kind("coldstart", bars.cold_start),),
    "memory": (_Kind("memory", bars.memory),),
}


def plot(rows: Sequence[Row], folder: Path, beside: Sequence[Row] = ()) -> list[Path]:
    """Draw the figures of every suite that the rows belong to.

    Dtypes other than float32 add a suffix to their names, and so do machines, if several have measured the same.

    Args:
        beside: other rows whose figures are drawn into the folder.

    Raises:
        BenchError: matplotlib is not installed, or nothing was timed.
    """
    try:
        import matplotlib  # noqa: F401 - asked for before the first figure, for a readable error
    except ImportError as error:
        raise BenchError(f"plots need matplotlib ({error}): pip install -r requirements/bench.txt") from error
    paths = []
    problems = dict.fromkeys((row.suite, row.dtype, row.environment.machine) for row in rows)
    known = {(row.suite, row.dtype, row.environment.machine) for row in (*rows, *beside)}
    machines = Counter((suite, dtype) for suite, dtype, _ in known)
    for suite, dtype, machine in problems:
        chosen = [row for row in rows if (row.suite, row.dtype, row.environment.machine) == (suite, dtype, machine)]
        ops = list(dict.fromkeys(row.op for row in chosen))
        for kind in _FIGURES.get(suite, ()):
            for op in ops if kind.an_op else ("",):
                parts = [
                    kind.name,
                    op,
                    "" if dtype == "float32" else dtype,
                    machine if machines[suite, dtype] > 1 else "",
                ]
                path = folder / f"{'_'.join(part for part in parts if part)}.png"
                drawn = kind.draw([row for row in chosen if not op or row.op == op], path)
                paths += [] if drawn is None else [drawn]
    return paths
