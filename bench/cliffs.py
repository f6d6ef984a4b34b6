"""Where time per image does not go with batch size, or time per pixel with resolution, as it does around.

Per image a larger batch should cost no more, and per pixel a larger image should cost no more, but for what the
caches no longer hold, which comes by and by. A cliff is a point that costs more than ``THRESHOLD`` above its trend:
the lower of the point before, and of the line between the points before and after (both axes logarithmic).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from rich.console import Group, RenderableType
from rich.table import Table

from .record import Row
from .tables import grouped, providers

THRESHOLD = 0.15

Axis = Literal["batch", "resolution"]


@dataclass(frozen=True)
class Point:
    """One point of a sweep.

    Attributes:
        at: batch size or resolution.
        cost: microseconds an image, or nanoseconds a pixel.
        above: how far the cost lies above its trend, as a share; negative below, None where nothing is before.
    """

    at: int
    cost: float
    above: float | None

    @property
    def cliff(self) -> bool:
        return self.above is not None and self.above > THRESHOLD


@dataclass(frozen=True)
class Sweep:
    """The points of one provider on one network along one axis, in rising order.

    Attributes:
        fixed: the batch size, or resolution, that the others share.
    """

    network: str
    dtype: str
    axis: Axis
    fixed: int
    provider: str
    points: tuple[Point, ...]


def trend(points: Sequence[tuple[int, float]], index: int) -> float | None:
    """What a cost should be at most, from the points around it; None for the first point."""
    if index == 0:
        return None
    (left, before) = points[index - 1]
    if index == len(points) - 1:
        return before
    (right, after), (at, _) = points[index + 1], points[index]
    share = (math.log(at) - math.log(left)) / (math.log(right) - math.log(left))
    return min(before, before * (after / before) ** share)


def _points(costs: dict[int, float]) -> tuple[Point, ...]:
    ordered = sorted(costs.items())
    trends = [trend(ordered, index) for index in range(len(ordered))]
    return tuple(
        Point(at, cost, None if expected is None else cost / expected - 1)
        for (at, cost), expected in zip(ordered, trends, strict=True)
    )


def _cost(row: Row, axis: Axis) -> float:
    if axis == "batch":
        return row.p50_ms * 1e3 / row.batch
    return row.p50_ms * 1e6 / (row.batch * row.resolution**2)


def sweeps(rows: Sequence[Row]) -> Iterator[Sweep]:
    """The sweeps of three points or more in these rows; fewer show no trend."""
    timed = [row for row in rows if row.p50_ms is not None]
    for axis in ("batch", "resolution"):
        other = "resolution" if axis == "batch" else "batch"
        found: dict[tuple, dict[int, float]] = {}
        for row in timed:
            key = row.case, row.dtype, getattr(row, other), row.provider
            found.setdefault(key, {})[getattr(row, axis)] = _cost(row, axis)
        for (network, dtype, fixed, provider), costs in found.items():
            if len(costs) > 2:
                yield Sweep(network, dtype, axis, fixed, provider, _points(costs))


def _cell(point: Point | None) -> str:
    if point is None:
        return ""
    text = f"{point.cost:.0f}" if point.cost >= 1000 else f"{point.cost:.4g}"
    if point.above is None:
        return text
    return f"[{'bold red' if point.cliff else 'dim'}]{text} {point.above:+.0%}"


def _table(chosen: Sequence[Sweep]) -> Table:
    """One table for the providers of a network along an axis."""
    first = chosen[0]
    if first.axis == "batch":
        title = f"{first.network}@{first.fixed} {first.dtype}: µs an image, and how far above the trend"
    else:
        title = f"{first.network} batch {first.fixed} {first.dtype}: ns a pixel, and how far above the trend"
    table = Table(title=title, min_width=len(title) + 2)
    table.add_column(first.axis, justify="right")
    for sweep in chosen:
        table.add_column(sweep.provider, justify="right")
    for at in sorted({point.at for sweep in chosen for point in sweep.points}):
        cells = ({point.at: point for point in sweep.points}.get(at) for sweep in chosen)
        table.add_row(str(at), *(_cell(cell) for cell in cells))
    return table


def _verdict(sweep: Sweep) -> str:
    where = f"{sweep.network} over {sweep.axis}"
    cliffs = [f"{point.at} ({point.above:+.0%})" for point in sweep.points if point.cliff]
    if cliffs:
        return f"[red]{sweep.provider}[/] has a cliff in {where} at {', '.join(cliffs)}"
    return f"[green]{sweep.provider}[/] has no cliff over {THRESHOLD:.0%} in {where}"


def report(rows: Sequence[Row]) -> RenderableType:
    """Time per image against batch and time per pixel against resolution, and where they have cliffs."""
    order = providers(rows)
    found = sorted(sweeps(rows), key=lambda sweep: order.index(sweep.provider))
    tables: dict[tuple, list[Sweep]] = {}
    for sweep in found:
        tables.setdefault((sweep.axis, sweep.network, sweep.dtype, sweep.fixed), []).append(sweep)
    if not tables:
        return f"{len(grouped(rows))} points: a trend needs three batch sizes or three resolutions with times"
    parts: list[RenderableType] = [_table(chosen) for chosen in tables.values()]
    return Group(*parts, *(_verdict(sweep) for chosen in tables.values() for sweep in chosen))
