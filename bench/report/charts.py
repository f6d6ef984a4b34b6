"""The charts of the report."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from markupsafe import Markup

from bench.roofline import Roofs

from .svg import Svg

# Where the plot of a chart begins and ends, in per cent of its width.
_LEFT, _RIGHT = 13.0, 97.0
# The same for bars, whose names stand at the left and whose numbers stand at their ends.
_NAMES, _BARS_END = 39.0, 80.0
_BAR, _HEADING, _GAP = 20, 24, 10


@dataclass(frozen=True)
class Bar:
    """A bar with its name and its number."""

    name: str
    value: float
    number: str
    css: str
    title: str = ""


def bars(
    groups: Sequence[tuple[str, Sequence[Bar]]], label: str, *, most: float, reference: float | None = None
) -> Markup:
    """Lying bars in groups with a heading each, on a scale from 0 to ``most``; an upright line at the reference."""
    height = sum(_HEADING + _GAP + _BAR * len(found) for _, found in groups)
    svg, y = Svg(height, label), 0.0
    scale = (_BARS_END - _NAMES) / most
    least_end = _NAMES + scale * (reference or 0)
    for heading, found in groups:
        svg.text(0, y + _HEADING / 2, heading, "heading")
        y += _HEADING
        end = y + _BAR * len(found)
        for place, bar in enumerate(found):
            middle = y + _BAR * (place + 0.5)
            width = scale * bar.value
            svg.text(_NAMES, middle, bar.name, "name", anchor="end", dx=-7)
            svg.box(_NAMES, middle - 7, width, 14, f"bar {bar.css}", bar.title)
            # Numbers stand right of the reference, which would run through them.
            svg.text(max(_NAMES + width, least_end), middle, bar.number, "number", dx=6)
        svg.line(_NAMES, y, _NAMES, end, "axis")
        if reference is not None:
            svg.line(least_end, y - 2, least_end, end + 2, "reference")
        y = end + _GAP
    return svg.markup()


@dataclass(frozen=True)
class Dots:
    """Places on a scale, with their middle one."""

    name: str
    values: Sequence[float]
    titles: Sequence[str]
    middle: float
    number: str
    mark: int
    css: str


def strips(rows: Sequence[Dots], label: str, *, most: float, ticks: Sequence[tuple[float, str]]) -> Markup:
    """A line of dots for each row, its median upright; what lies above ``most`` stands at the edge."""
    line = 34
    height = line * len(rows) + 24
    svg = Svg(height, label)
    names, end = 40.0, 88.0

    def across(value: float) -> float:
        return names + (end - names) * min(value, most) / most

    for value, text in ticks:
        svg.line(across(value), 0, across(value), height - 22, "reference" if value == 1 else "grid")
        svg.text(across(value), height - 10, text, "tick", anchor="middle")
    for place, row in enumerate(rows):
        middle = line * (place + 0.5)
        svg.text(names, middle, row.name, "name", anchor="end", dx=-12)
        for value, title in zip(row.values, row.titles, strict=True):
            svg.mark(across(value), middle, row.mark, f"mark faint {row.css}", title)
        svg.line(across(row.middle), middle - 13, across(row.middle), middle + 13, "median")
        svg.text(100, middle, row.number, "number", anchor="end")
    return svg.markup()


@dataclass(frozen=True)
class Piece:
    """A part of a whole, with a letter that the legend explains."""

    letter: str
    share: float
    css: str
    title: str


def stack(pieces: Sequence[Piece], label: str) -> Markup:
    """One bar from 0 to 100 per cent; pieces too narrow for their letter go without."""
    svg, begin = Svg(34, label), 0.0
    for piece in pieces:
        width = 100 * piece.share
        svg.box(begin, 2, width, 30, f"piece {piece.css}", piece.title)
        if width >= 4:
            svg.text(begin + width / 2, 17, piece.letter, "letter", anchor="middle")
        begin += width
    return svg.markup()


def _decades(low: float, high: float) -> list[float]:
    """1, 2 and 5 of every decade between; where these are more than seven, 1 of every decade alone."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    found = [step * 10.0**power for power in powers for step in (1, 2, 5)]
    found = [value for value in found if low <= value <= high]
    return found if len(found) <= 7 else [value for value in found if f"{value:e}".startswith("1.0")]


def _logarithmic(low: float, high: float, begin: float, end: float) -> Callable[[float], float]:
    span = math.log(high / low) or 1.0
    return lambda value: begin + (end - begin) * math.log(value / low) / span


@dataclass(frozen=True)
class Curve:
    """Places in order, with what each is."""

    points: Sequence[tuple[float, float, str]]
    mark: int
    css: str


_TOP, _FLOOR = 12.0, 36.0


def curves(found: Sequence[Curve], label: str, *, axis: str, unit: str, height: float = 280) -> Markup:
    """Curves on logarithmic axes, with a tick at every place that was measured."""
    places = sorted({x for curve in found for x, _, _ in curve.points})
    values = [y for curve in found for _, y, _ in curve.points]
    low, high = min(values) / 1.15, max(values) * 1.15
    across = _logarithmic(places[0], places[-1], _LEFT + 3, _RIGHT - 3)
    up = _logarithmic(low, high, height - _FLOOR, _TOP + 12)
    svg = Svg(height, label)
    for value in _decades(low, high):
        svg.line(_LEFT, up(value), _RIGHT, up(value), "grid")
        svg.text(_LEFT, up(value), f"{value:g}", "tick", anchor="end", dx=-6)
    drawn = -math.inf
    for place in places:
        # Places that stand close, such as 224 and 240, share one number.
        if across(place) - drawn > 7:
            svg.text(across(place), height - 24, f"{place:g}", "tick", anchor="middle")
            drawn = across(place)
    svg.line(_LEFT, height - _FLOOR, _RIGHT, height - _FLOOR, "axis")
    svg.text(_LEFT, 6, unit, "tick")
    svg.text((_LEFT + _RIGHT) / 2, height - 7, axis, "tick", anchor="middle")
    for curve in found:
        points = [(across(x), up(y), title) for x, y, title in curve.points]
        for (x1, y1, _), (x2, y2, _) in pairwise(points):
            svg.line(x1, y1, x2, y2, f"curve {curve.css}")
        for x, y, title in points:
            svg.mark(x, y, curve.mark, f"mark {curve.css}", title)
    return svg.markup()


@dataclass(frozen=True)
class Spot:
    """A shape under the roofs: MACs a byte, GFLOP/s, and what it is."""

    intensity: float
    gflops: float
    mark: int
    css: str
    title: str


def roofline(spots: Sequence[Spot], roofs: Roofs, label: str, *, height: float = 320) -> Markup:
    """GFLOP/s against MACs a byte, both logarithmic, beneath the rates of a copy and of a matrix product."""
    low = 2 ** math.floor(math.log2(min(spot.intensity for spot in spots)) - 0.3)
    high = max(2 ** math.ceil(math.log2(max(spot.intensity for spot in spots)) + 0.3), 2 * roofs.ridge)
    least = min([spot.gflops for spot in spots] + [roofs.at(low)]) / 1.4
    most = max([spot.gflops for spot in spots] + [roofs.gemm_gflops]) * 1.6
    across, up = _logarithmic(low, high, _LEFT, _RIGHT), _logarithmic(least, most, height - _FLOOR, _TOP)
    svg = Svg(height, label)
    for value in _decades(least, most):
        svg.line(_LEFT, up(value), _RIGHT, up(value), "grid")
        svg.text(_LEFT, up(value), f"{value:g}", "tick", anchor="end", dx=-6)
    powers = range(math.ceil(math.log2(low)), math.floor(math.log2(high)) + 1)
    for power in powers[:: 1 + len(powers) // 8]:
        svg.line(across(2.0**power), _TOP, across(2.0**power), height - _FLOOR, "grid")
        svg.text(across(2.0**power), height - 24, f"{2.0**power:g}", "tick", anchor="middle")
    for x1, x2 in ((low, roofs.ridge), (roofs.ridge, high)):
        if low <= x1 < x2:
            svg.line(across(x1), up(roofs.at(x1)), across(x2), up(roofs.at(x2)), "roof")
    svg.line(_LEFT, height - _FLOOR, _RIGHT, height - _FLOOR, "axis")
    product = f"matrix product {roofs.gemm_gflops:.0f} GFLOP/s"
    svg.text(_RIGHT, up(roofs.gemm_gflops) - 12, product, "tick", anchor="end")
    # Left of the slanted roof there is nothing, whatever was measured.
    half = math.sqrt(low * roofs.ridge) if low < roofs.ridge else low
    svg.text(across(half), up(roofs.at(half)) - 8, f"copy {roofs.copy_gbps:.0f} GB/s", "tick", anchor="end", dx=-6)
    svg.text((_LEFT + _RIGHT) / 2, height - 7, "multiply-accumulates a byte", "tick", anchor="middle")
    for spot in spots:
        svg.mark(across(spot.intensity), up(spot.gflops), spot.mark, spot.css, spot.title)
    return svg.markup()
