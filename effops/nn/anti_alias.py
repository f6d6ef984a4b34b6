"""Anti-aliasing: a strided convolution runs at stride 1, and a low-pass filter takes the stride after it.

Zhang, arXiv 1904.11486.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from effops.errors import ArgumentError
from effops.ops.functional import depthwise_conv_act


class BlurPool2d(nn.Module):
    """Halve a map with the filter [1 2 1] / 4 along both axes; one zero on each side. No parameters, no keys."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        line = torch.tensor([0.25, 0.5, 0.25])
        weight = torch.outer(line, line).expand(channels, 1, 3, 3)
        self.register_buffer("weight", weight.clone(), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        return depthwise_conv_act(x, self.weight.to(x.dtype), None, stride=2, padding=1, act="identity")


def pool_and_stride(anti_alias: str | None, channels: int, stride: int) -> tuple[nn.Module | None, int]:
    """What follows a convolution that should stride, and the stride that is left to the convolution."""
    if anti_alias not in (None, "avg", "blur"):
        raise ArgumentError(f"anti_alias must be None, 'avg' or 'blur'; got {anti_alias!r}")
    if anti_alias is None or stride == 1:
        return None, stride
    if stride != 2:
        raise ArgumentError(f"anti_alias takes a stride of 2; got {stride}. Use anti_alias=None")
    return (nn.AvgPool2d(2) if anti_alias == "avg" else BlurPool2d(channels)), 1
