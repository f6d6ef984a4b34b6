"""The norm of a network, as data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Norm:
    """What every norm of a network is.

    Attributes:
        kind: "batch"; "group" (Wu and He, arXiv 1803.08494); "rms", over the channels of a pixel and without a bias
            (Zhang and Sennrich, arXiv 1910.07467).
        group_size: channels of a group, for "group" alone.
    """

    kind: Literal["batch", "group", "rms"] = "batch"
    group_size: int = 0

    @property
    def learned(self) -> tuple[str, ...]:
        """Names of its parameters, each a vector of the channels."""
        return ("weight",) if self.kind == "rms" else ("weight", "bias")

    @property
    def statistics(self) -> tuple[str, ...]:
        """Names of its running statistics, each a vector of the channels."""
        return ("running_mean", "running_var") if self.kind == "batch" else ()


BATCH_NORM = Norm()
