"""Stochastic depth: Huang et al., arXiv 1603.09382."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from effops.errors import ArgumentError


class DropPath(nn.Module):
    """In training, set a residual branch to zero for a random part of the batch and scale up the rest.

    Args:
        rate: probability, for every sample, that its branch is dropped; in [0, 1).
    """

    def __init__(self, rate: float = 0.0) -> None:
        super().__init__()
        if not 0 <= rate < 1:
            raise ArgumentError(f"drop path rate must be in [0, 1); got {rate}")
        self.rate = rate

    def sample_scale(self, x: Tensor) -> Tensor | None:
        """The factor of every sample, (N,) float32: 0 or 1 / (1 - rate). None where nothing is dropped."""
        if not self.training or self.rate == 0:
            return None
        keep = 1 - self.rate
        return x.new_empty(x.shape[0], dtype=torch.float32).bernoulli_(keep).div_(keep)

    def forward(self, x: Tensor) -> Tensor:
        scale = self.sample_scale(x)
        return x if scale is None else x * scale.to(x.dtype).view(-1, *(1,) * (x.dim() - 1))

    def extra_repr(self) -> str:
        return f"rate={self.rate:g}"
