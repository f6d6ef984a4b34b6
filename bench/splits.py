"""Rows of the suite "split" as parts of a whole: the time of a network by kind of kernel."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from .appearance import kind_place
from .record import Row


@dataclass(frozen=True)
class Split:
    """One network at one batch size: its row, and that of every kind of kernel."""

    whole: Row
    parts: dict[str, Row]

    @property
    def title(self) -> str:
        return f"{self.whole.models}@{self.whole.resolution}, batch {self.whole.batch}"

    def share(self, kind: str) -> float:
        """The part of a kind in the time of the network, 0 to 1."""
        return self.parts[kind].p50_ms / self.whole.p50_ms if kind in self.parts else 0.0


def splits(rows: Sequence[Row]) -> list[Split]:
    """The networks of the suite that were timed, in order; kinds in the order of figures and tables."""
    by_network: dict[tuple, dict[str, Row]] = {}
    for row in rows:
        if row.p50_ms is not None:
            key = row.models, row.batch, row.resolution, row.dtype
            by_network.setdefault(key, {})[row.op] = row
    return [
        Split(parts[""], {kind: parts[kind] for kind in sorted(parts, key=kind_place) if kind})
        for parts in by_network.values()
        if "" in parts
    ]
