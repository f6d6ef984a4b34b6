"""Inline SVG as wide as the page lets it be: places across are in per cent, heights and letters in pixels, so that a
chart on a phone has the letters of the text around it. Colours are classes, which follow the theme of the page.
"""

from __future__ import annotations

from markupsafe import Markup, escape

# One shape for each place of bench.appearance.MARKERS: no chart tells by colour alone.
_SHAPES = (
    "M0-4.5A4.5 4.5 0 1 1 0 4.5A4.5 4.5 0 1 1 0-4.5Z",
    "M-4-4H4V4H-4Z",
    "M0-5L5 4H-5Z",
    "M0-5.5L5.5 0L0 5.5L-5.5 0Z",
    "M0 5L5-4H-5Z",
    "M-1.7-5H1.7V-1.7H5V1.7H1.7V5H-1.7V1.7H-5V-1.7H-1.7Z",
    "M-5-2.6L-2.6-5L0-2.4L2.6-5L5-2.6L2.4 0L5 2.6L2.6 5L0 2.4L-2.6 5L-5 2.6L-2.4 0Z",
    "M0-5.5L1.5-1.8L5.5-1.6L2.4.9L3.4 4.8L0 2.6L-3.4 4.8L-2.4.9L-5.5-1.6L-1.5-1.8Z",
)


def _number(value: float) -> str:
    """Two decimals at most, so that the same rows give the same bytes."""
    return f"{value:.2f}".rstrip("0").rstrip(".")


def _title(text: str) -> Markup:
    return Markup("<title>{}</title>").format(text) if text else Markup()


def shape(place: int) -> str:
    """The path of a mark, around its middle."""
    return _SHAPES[place % len(_SHAPES)]


class Svg:
    """A chart that says in words what it shows."""

    def __init__(self, height: float, label: str):
        self._height, self._label = height, label
        self._parts: list[Markup] = []

    def text(
        self, x: float, y: float, content: str, css: str = "", *, anchor: str = "start", dx: float = 0, dy: float = 4
    ) -> None:
        """Text whose middle is at y."""
        template = '<text x="{}%" y="{}" dx="{}" dy="{}" text-anchor="{}" class="{}">{}</text>'
        places = _number(x), _number(y), _number(dx), _number(dy)
        self._parts.append(Markup(template).format(*places, anchor, css, content))

    def box(self, x: float, y: float, width: float, height: float, css: str, title: str = "") -> None:
        template = '<rect x="{}%" y="{}" width="{}%" height="{}" class="{}">{}</rect>'
        places = _number(x), _number(y), _number(max(width, 0)), _number(height)
        self._parts.append(Markup(template).format(*places, css, _title(title)))

    def line(self, x1: float, y1: float, x2: float, y2: float, css: str) -> None:
        template = '<line x1="{}%" y1="{}" x2="{}%" y2="{}" class="{}"/>'
        self._parts.append(Markup(template).format(*map(_number, (x1, y1, x2, y2)), css))

    def mark(self, x: float, y: float, place: int, css: str, title: str = "") -> None:
        template = '<svg x="{}%" y="{}" overflow="visible" class="{}"><path d="{}">{}</path></svg>'
        self._parts.append(Markup(template).format(_number(x), _number(y), css, shape(place), _title(title)))

    def markup(self) -> Markup:
        template = '<svg class="chart" role="img" aria-label="{}" width="100%" height="{}">{}</svg>'
        return Markup(template).format(escape(self._label), _number(self._height), Markup().join(self._parts))
