"""What effops means to reach on CPUs beside the fastest peer, network by network, and whether it does."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from rich.console import Group, RenderableType

from .record import Row
from .selection import SUBJECT
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


def report(rows: Sequence[Row]) -> RenderableType:
    """A line for every case that has a goal; nothing where none has."""
    lines = []
    for found in verdicts(rows):
        row, goal = found.subject, found.goal
        colour, word = ("green", "reached") if found.reached else ("red", "missed")
        share, other = "", ""
        if found.of_product is not None:
            share = f", {found.of_product:.0%} of a matrix product's rate"
            other = f", or {goal.of_product:.0%}"
        lines.append(
            f"[{colour}]{word}[/] {row.case}@{row.resolution} {row.dtype} batch {row.batch}: {row.p50_ms:.3g} ms, "
            f"{found.ratio:.2f}x as fast as {found.peer.provider} in {found.peer.p50_ms:.3g} ms{share} "
            f"(goal: at least {found.least:g}x{other})"
        )
    return Group(*lines)
