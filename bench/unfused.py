"""The ops as plain torch networks write them after batch norm is folded away: one torch op for each step.

These are what the peers of the ops suite run, and in float64 what all results are compared with.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def _identity(x: Tensor) -> Tensor:
    return x


# In place where torch can: what timm and torchvision do, and the fastest that eager mode has to offer.
ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "identity": _identity,
    "relu": lambda x: F.relu(x, inplace=True),
    "relu6": lambda x: F.relu6(x, inplace=True),
    "silu": lambda x: F.silu(x, inplace=True),
    "hardswish": lambda x: F.hardswish(x, inplace=True),
    "gelu": F.gelu,
}
GATES: dict[str, Callable[[Tensor], Tensor]] = {"sigmoid": torch.sigmoid, "hardsigmoid": F.hardsigmoid}


def same_padding(size: int, kernel: int, stride: int) -> tuple[int, int]:
    """TensorFlow's SAME: zeros before and after that give ceil(size / stride) outputs, the odd one after."""
    total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
    return total // 2, total - total // 2


class ConvAct(nn.Module):
    """act(conv(x) + b), dense or depthwise; with ``pool`` also the spatial mean of the result."""

    def __init__(self, conv: nn.Conv2d, *, same: bool, act: str, pool: bool = False):
        super().__init__()
        self.conv = conv
        self.same = same
        self.act = act
        self.pool = pool

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        if self.same:
            kernel, stride = self.conv.kernel_size, self.conv.stride
            rows = same_padding(x.shape[2], kernel[0], stride[0])
            columns = same_padding(x.shape[3], kernel[1], stride[1])
            x = F.pad(x, (*columns, *rows))
        y = ACTIVATIONS[self.act](self.conv(x))
        return (y, y.mean((2, 3))) if self.pool else y


class GatedPointwise(nn.Module):
    """act(W (gate * x) + b) + residual; gate and residual may be missing."""

    def __init__(self, conv: nn.Conv2d, *, act: str):
        super().__init__()
        self.conv = conv
        self.act = act

    def forward(self, x: Tensor, gate: Tensor | None, residual: Tensor | None) -> Tensor:
        if gate is not None:
            x = x * gate[:, :, None, None].to(x.dtype)
        y = ACTIVATIONS[self.act](self.conv(x))
        return y if residual is None else y + residual


class Gate(nn.Module):
    """gate(W2 act(W1 mean + b1) + b2) on the (N, C) mean, as 1x1 convolutions, as in the networks."""

    def __init__(self, reduce: nn.Conv2d, expand: nn.Conv2d, *, act: str, gate: str):
        super().__init__()
        self.reduce = reduce
        self.expand = expand
        self.act = act
        self.gate = gate

    def forward(self, pooled: Tensor) -> Tensor:
        x = pooled[:, :, None, None].to(self.reduce.weight.dtype)
        hidden = ACTIVATIONS[self.act](self.reduce(x))
        return GATES[self.gate](self.expand(hidden)).flatten(1)
