"""Root mean square norm of images: Zhang and Sennrich, arXiv 1910.07467."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class RmsNorm2d(nn.Module):
    """Every pixel over the root mean square of its channels: ``x / sqrt(mean_c(x^2) + eps) * weight``. Key: ``weight``.

    Over the last axis of the channels_last layout; the mean is accumulated in float32 or better.
    """

    def __init__(self, channels: int, eps: float = 1e-6) -> None:
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(channels))

    def forward(self, x: Tensor) -> Tensor:
        # Under autocast the weight is wider than the images: the wider one counts, as in arithmetic.
        rows = x.permute(0, 2, 3, 1).to(torch.promote_types(x.dtype, self.weight.dtype))
        return F.rms_norm(rows, self.weight.shape, self.weight, self.eps).permute(0, 3, 1, 2)

    def extra_repr(self) -> str:
        return f"{len(self.weight)}, eps={self.eps:g}"
