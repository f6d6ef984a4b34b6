"""Maps of several stages made one: the multi-scale fusion adapter of MobileNetV5, as timm has it."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class MultiScaleFusion(nn.Module):
    """``norm(resize(ffn(maps side by side)))``, the smaller maps enlarged to the first by repeating pixels.

    The resize gives ``resolution`` x ``resolution`` pixels: the mean of blocks of pixels where a whole number of them
    makes one, bilinear interpolation elsewhere. Keys: ``ffn``, ``norm``.

    Args:
        ffn: from all channels together to those that come out, without a change of size.
        norm: of those.
    """

    def __init__(self, ffn: nn.Module, norm: nn.Module, *, resolution: int) -> None:
        super().__init__()
        self.resolution = resolution
        self.ffn = ffn
        self.norm = norm

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        size = maps[0].shape[2:]
        maps = [y if y.shape[2:] == size else F.interpolate(y, size=size, mode="nearest") for y in maps]
        return self.norm(self._resize(self.ffn(torch.cat(maps, 1))))

    def _resize(self, x: Tensor) -> Tensor:
        side = self.resolution
        height, width = x.shape[2:]
        if height % side or width % side:
            return F.interpolate(x, size=(side, side), mode="bilinear")
        return x if (height, width) == (side, side) else F.avg_pool2d(x, (height // side, width // side))

    def extra_repr(self) -> str:
        return f"resolution={self.resolution}"
