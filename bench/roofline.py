"""Where ops stand beneath the roofs of the machine: GFLOP/s against arithmetic intensity."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from .record import Row
from .selection import SUBJECT, is_subject
from .statistics import quantile
from .tables import grouped


@dataclass(frozen=True)
class Roofs:
    """What the machine can do at best in a run: the rate of copies and that of a large matrix product."""

    copy_gbps: float
    gemm_gflops: float

    @classmethod
    def of(cls, rows: Sequence[Row]) -> Roofs:
        """The typical copy of the larger half of the working sets, which no cache holds, and the matrix product."""
        copies = sorted((row.bytes or 0, row.copy_gbps) for row in rows if row.copy_gbps is not None)
        large = [gbps for _, gbps in copies[len(copies) // 2 :]]
        return cls(quantile(large, 0.5), max(row.gemm_gflops for row in rows if row.gemm_gflops is not None))

    @property
    def ridge(self) -> float:
        """Multiply-accumulates a byte above which arithmetic binds."""
        return self.gemm_gflops / (2 * self.copy_gbps)

    def at(self, macs_per_byte: float) -> float:
        """The most GFLOP/s at an intensity."""
        return min(2 * macs_per_byte * self.copy_gbps, self.gemm_gflops)


def intensity(row: Row) -> float:
    """Multiply-accumulates a byte of the least traffic."""
    return row.macs / row.bytes


def _placed(row: Row) -> bool:
    known = row.macs and row.bytes and row.gflops
    return bool(known) and row.copy_gbps is not None and row.gemm_gflops is not None


def points(rows: Sequence[Row]) -> list[tuple[Row, Row | None]]:
    """effops' row of every problem that has a place under the roofs, with that of the fastest peer, if there is one."""
    found = []
    for by_provider in grouped(rows).values():
        subject = by_provider.get(SUBJECT)
        if subject is None or not _placed(subject):
            continue
        peers = [row for name, row in by_provider.items() if not is_subject(name) and _placed(row)]
        found.append((subject, max(peers, key=lambda row: row.gflops, default=None)))
    return found
