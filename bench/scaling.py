"""Rows of the suite "scaling" as curves: milliseconds an image against batch size and against resolution."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from .record import Row
from .tables import providers


@dataclass(frozen=True)
class Curves:
    """One network along one axis.

    Attributes:
        axis: "batch" or "resolution".
        fixed: what the other one is.
        of: (place on the axis, row) of every provider, in order.
    """

    case: str
    dtype: str
    axis: str
    fixed: int
    of: dict[str, list[tuple[int, Row]]]

    @property
    def title(self) -> str:
        return f"{self.case}, {f'@{self.fixed}' if self.axis == 'batch' else f'batch {self.fixed}'}"


def ms_per_image(row: Row) -> float:
    return row.p50_ms / row.batch


def _longest(
    rows: Sequence[Row], axis: Callable[[Row], int | None], fixed: Callable[[Row], int | None]
) -> tuple[int, list[Row]] | None:
    """The value of the fixed quantity with the most places along the axis, two at least, and its rows."""
    values = sorted({fixed(row) for row in rows})
    found = [(value, [row for row in rows if fixed(row) == value]) for value in values]
    value, best = max(found, key=lambda item: len({axis(row) for row in item[1]}))
    return (value, best) if len({axis(row) for row in best}) > 1 else None


def curves(rows: Sequence[Row]) -> list[Curves]:
    """Curves of every network and dtype, along batch first; an axis with one place gives none."""
    timed = [row for row in rows if row.p50_ms is not None and row.resolution is not None]
    axes = {"batch": lambda row: row.batch, "resolution": lambda row: row.resolution}
    found = []
    for axis, place in axes.items():
        other = axes["resolution" if axis == "batch" else "batch"]
        for case, dtype in dict.fromkeys((row.case, row.dtype) for row in timed):
            longest = _longest([row for row in timed if (row.case, row.dtype) == (case, dtype)], place, other)
            if longest is None:
                continue
            fixed, chosen = longest
            of = {
                name: sorted(
                    {place(row): row for row in chosen if row.provider == name}.items(), key=lambda item: item[0]
                )
                for name in providers(chosen)
            }
            found.append(Curves(case, dtype, axis, fixed, of))
    return found
