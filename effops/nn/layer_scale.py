"""Layer scale: Touvron et al., arXiv 2103.17239."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class LayerScale2d(nn.Module):
    """A learned factor for every channel. Key: ``gamma``."""

    def __init__(self, channels: int, init: float = 1e-5) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.full((channels,), init))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gamma.view(-1, 1, 1)


def layer_scale(channels: int, init: float | None) -> LayerScale2d | nn.Identity:
    """The layer scale of a block; the identity where it has none."""
    return nn.Identity() if init is None else LayerScale2d(channels, init)
