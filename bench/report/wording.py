"""Numbers and names as a reader gets them."""

from __future__ import annotations

import re
from collections.abc import Sequence

from markupsafe import Markup, escape

from bench.appearance import FAMILIES, colours, title
from bench.record import Row
from bench.selection import SUBJECT, is_subject

from .page import Cell, Key
from .svg import shape


def number(value: float) -> str:
    """Three significant digits, without an exponent."""
    if value == 0:
        return "0"
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"


def breakable(text: str) -> Markup:
    """A name that may break into lines at its joints, not inside of its words."""
    return Markup(re.sub("(_|(?=@))", r"\1<wbr>", str(escape(text))))


def times(ratio: float) -> str:
    return f"{ratio:.2f}x" if 0.1 <= ratio < 100 else f"{number(ratio)}x"


def seconds(value: float) -> str:
    """Milliseconds below a second."""
    return f"{number(value)} s" if value >= 1 else f"{number(value * 1e3)} ms"


def mebibytes(value: int) -> str:
    return f"{number(value / 2**20)} MiB"


def milliseconds(row: Row | None, small: str = "") -> Cell:
    """The median with p20-p80 beneath it, or why there is none."""
    if row is None:
        return Cell("-")
    if row.p50_ms is None:
        return Cell(row.status, css="bad" if row.status in ("wrong", "failed") else "quiet")
    spread = f"{number(row.p20_ms)}-{number(row.p80_ms)}"
    return Cell(
        number(row.p50_ms), f"{spread}\n{small}" if small else spread, "own" if is_subject(row.provider) else ""
    )


def ratio_cell(ratio: float | None) -> Cell:
    """A speed-up: words and a colour say which side of 1 it is on."""
    if ratio is None:
        return Cell("-")
    return Cell(times(ratio), "ahead" if ratio >= 1 else "behind", "good" if ratio >= 1 else "bad")


def css_of(names: Sequence[str]) -> dict[str, str]:
    """The class of every provider: effops has its own, peers are counted."""
    peers = [name for name in names if not is_subject(name)]
    found = {name: f"p{place % 8}" for place, name in enumerate(peers)}
    return found | {name: "own" if name == SUBJECT else "own2" for name in colours(names) if is_subject(name)}


def legend(names: Sequence[str]) -> list[Key]:
    """A mark a provider, in the order of the names."""
    css = css_of(names)
    return [Key(title(name), f"mark {css[name]}", shape(place)) for place, name in enumerate(names)]


def best_of_family(by_provider: dict[str, Row], family: str) -> float | None:
    """Milliseconds of the fastest of a family at a problem, or None when none was timed."""
    _, names = FAMILIES[family]
    found = [by_provider[name].p50_ms for name in names if name in by_provider]
    return min((time for time in found if time is not None), default=None)


def several(values: Sequence[object]) -> str:
    """ "1", "1 and 8", "1, 8 and 16"."""
    words = [str(value) for value in values]
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"
