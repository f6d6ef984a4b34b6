"""What effops means to reach on CPUs beside its peers: in speed network by network, at the start, and in memory."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product

from .record import Row
from .selection import MAPPED, SUBJECT
from .tables import fastest_peer, grouped


@dataclass(frozen=True)
class Goal:
    """A network, at one resolution and these batch sizes.

    Attributes:
        ratio: by dtype, how many times faster than the fastest peer.
        of_product: or, in float32, this share of the rate of a matrix product: where arithmetic alone takes so long
            that nobody can be much faster.
    """

    network: str
    resolution: int
    batches: Sequence[int]
    ratio: dict[str, float]
    of_product: float | None = None


_SQUEEZED = {"float32": 1.45, "bfloat16": 2.2}
_SMALL = {"float32": 1.3, "bfloat16": 1.6}
_DENSE = {"float32": 1.05, "bfloat16": 1.6}

GOALS = (
    Goal("efficientnet_b0", 224, (1, 8), _SQUEEZED),
    Goal("tf_efficientnet_lite0", 224, (1, 8), _SQUEEZED),
    Goal("efficientnet_b4", 380, (1,), _SQUEEZED),
    Goal("mobilenetv2_100", 224, (1, 8), _SMALL),
    Goal("mobilenetv3_large_100", 224, (1, 8), _SMALL),
    Goal("mobilenetv3_small_100", 224, (1, 8), _SMALL),
    Goal("mobilenetv1_100", 224, (1, 8), {"float32": 1.05}, of_product=0.85),
    Goal("mobilenetv4_conv_medium", 256, (1, 8), _DENSE, of_product=0.85),
    Goal("tf_efficientnetv2_s", 300, (1, 4), _DENSE, of_product=0.85),
)


def cases(dtype: str) -> list[tuple[str, int, int]]:
    """Network, batch and resolution of every case that has a goal in this dtype."""
    return [(goal.network, batch, goal.resolution) for goal in GOALS if dtype in goal.ratio for batch in goal.batches]


@dataclass(frozen=True)
class Verdict:
    """How far effops got in one case.

    Attributes:
        subject, peer: effops' row, and the fastest peer's.
        of_product: the share of a matrix product's rate that effops reaches, where it would do as well.
    """

    goal: Goal
    subject: Row
    peer: Row
    of_product: float | None

    @property
    def ratio(self) -> float:
        return self.peer.p50_ms / self.subject.p50_ms

    @property
    def least(self) -> float:
        return self.goal.ratio[self.subject.dtype]

    @property
    def reached(self) -> bool:
        return self.ratio >= self.least or (self.of_product or 0.0) >= (self.goal.of_product or 1.0)


def verdicts(rows: Sequence[Row]) -> Iterator[Verdict]:
    """One for every case on the CPU that has a goal and times of effops and of a peer."""
    known = {(goal.network, goal.resolution, batch): goal for goal in GOALS for batch in goal.batches}
    for by_provider in grouped(row for row in rows if row.environment.device == "cpu").values():
        subject = by_provider.get(SUBJECT)
        peer = fastest_peer(by_provider)
        goal = subject and known.get((subject.case, subject.resolution, subject.batch))
        if goal is None or subject.dtype not in goal.ratio or subject.p50_ms is None or peer is None:
            continue
        share = None
        if goal.of_product and subject.dtype == "float32" and subject.gflops and subject.gemm_gflops:
            share = subject.gflops / subject.gemm_gflops
        yield Verdict(goal, subject, peer, share)


# What effops may take at most, as a share of a peer.
START_GOALS = {"openvino": 2.0, "compile": 0.1}
MEMORY_GOALS = {"onnxruntime": 0.5}


@dataclass(frozen=True)
class Share:
    """What effops takes in a case where it has a goal, and the peer that it is measured by.

    Attributes:
        most: what effops may take at most, as a share of the peer.
        ratio: what it takes.
    """

    subject: Row
    peer: Row
    most: float
    ratio: float

    @property
    def reached(self) -> bool:
        return self.ratio <= self.most


def shares(by_provider: Mapping[str, Row], goals: Mapping[str, float], column: str) -> Iterator[Share]:
    """One for every goal whose peer has a figure, and another where effops has its weights in a mapped file."""
    for name, (peer, most) in product((SUBJECT, MAPPED), goals.items()):
        subject, row = by_provider.get(name), by_provider.get(peer)
        mine, other = (getattr(which, column) if which else None for which in (subject, row))
        if mine and other:
            yield Share(subject, row, most, mine / other)
