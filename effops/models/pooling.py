"""Global pooling at the end of a network."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from effops.errors import ArgumentError

POOLS = ("avg", "max", "avgmax", "")


class GlobalPool(nn.Module):
    """Reduce a feature map (N, C, H, W) to (N, C, 1, 1).

    Args:
        name: "avg", "max", "avgmax" (the mean of both), or "" for none. The mean is accumulated in float32.
    """

    def __init__(self, name: str = "avg") -> None:
        super().__init__()
        if name not in POOLS:
            raise ArgumentError(f"global_pool must be one of {', '.join(map(repr, POOLS))}; got {name!r}")
        self.name = name

    def forward(self, x: Tensor) -> Tensor:
        if self.name == "avg":
            return _mean(x)
        if self.name == "max":
            return x.amax((2, 3), keepdim=True)
        if self.name == "avgmax":
            return 0.5 * (_mean(x) + x.amax((2, 3), keepdim=True))
        return x

    def extra_repr(self) -> str:
        return repr(self.name)


def _mean(x: Tensor) -> Tensor:
    dtype = torch.float64 if x.dtype == torch.float64 else torch.float32
    return x.mean((2, 3), keepdim=True, dtype=dtype).to(x.dtype)
