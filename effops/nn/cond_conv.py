"""Conditionally parameterized convolutions: Yang et al., arXiv 1904.04971."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from effops.ops.shape import pad_before_after
from effops.ops.spec import SAME

from .activation import activate, check_activation
from .conv import Padding
from .drop_path import DropPath
from .squeeze_excite import squeeze_excite_or_identity


class CondConv2d(nn.Module):
    """A convolution whose kernel is mixed for every image: ``conv(x[n], sum_e routing[n, e] weight[e])``.

    Attributes:
        weight: (experts, O * C / groups * k * k).
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        *,
        experts: int,
        stride: int = 1,
        padding: Padding = None,
        groups: int = 1,
    ) -> None:
        super().__init__()
        self.kernel_shape = (out_channels, in_channels // groups, kernel_size, kernel_size)
        self.stride = stride
        self.padding = (kernel_size - 1) // 2 if padding is None else padding
        self.groups = groups
        self.weight = nn.Parameter(torch.empty(experts, math.prod(self.kernel_shape)))
        nn.init.normal_(self.weight, 0.0, math.sqrt(2.0 * groups / (out_channels * kernel_size**2)))

    def forward(self, x: Tensor, routing: Tensor) -> Tensor:
        kernels = routing @ self.weight
        batch, channels, height, width = x.shape
        out, taps = self.kernel_shape[0], self.kernel_shape[2]
        if taps == 1 and self.stride == 1:
            return (kernels.view(batch, out, channels) @ x.flatten(2)).view(batch, out, height, width)
        padding = self.padding
        if padding == "same":
            (top, bottom), (left, right) = (
                pad_before_after(size, taps, self.stride, SAME, 1) for size in (height, width)
            )
            x, padding = F.pad(x, (left, right, top, bottom)), 0
        # The images as groups of one convolution, each with its own kernel.
        y = F.conv2d(
            x.reshape(1, batch * channels, *x.shape[2:]),
            kernels.view(batch * out, *self.kernel_shape[1:]),
            stride=self.stride,
            padding=padding,
            groups=batch * self.groups,
        )
        return y.view(batch, out, *y.shape[2:])


class CondMBConv(nn.Module):
    """Inverted residual whose three convolutions have several experts, mixed by one routing of the input's mean.

    It runs module by module: no folded kernel serves two images. Keys: ``conv_pw bn1 conv_dw bn2 se conv_pwl bn3
    routing_fn``.

    Args:
        experts: kernels of each convolution.
        others: as in :class:`effops.nn.MBConv`.
    """

    def __init__(
        self,
        in_channels: int,
        mid_channels: int,
        out_channels: int,
        kernel_size: int = 3,
        *,
        experts: int,
        stride: int = 1,
        padding: Padding = None,
        act: str = "relu",
        se_channels: int = 0,
        se_act: str | None = None,
        se_gate: str = "sigmoid",
        residual: bool = True,
        drop_path: float = 0.0,
        bn_eps: float = 1e-5,
        bn_momentum: float = 0.1,
    ) -> None:
        super().__init__()
        check_activation(act)
        self.act = act
        self.has_residual = residual and stride == 1 and in_channels == out_channels
        norm = {"eps": bn_eps, "momentum": bn_momentum}
        self.conv_pw = CondConv2d(in_channels, mid_channels, 1, experts=experts)
        self.bn1 = nn.BatchNorm2d(mid_channels, **norm)
        spatial = {"stride": stride, "padding": padding, "groups": mid_channels}
        self.conv_dw = CondConv2d(mid_channels, mid_channels, kernel_size, experts=experts, **spatial)
        self.bn2 = nn.BatchNorm2d(mid_channels, **norm)
        self.se = squeeze_excite_or_identity(mid_channels, se_channels, se_act or act, se_gate)
        self.conv_pwl = CondConv2d(mid_channels, out_channels, 1, experts=experts)
        self.bn3 = nn.BatchNorm2d(out_channels, **norm)
        self.routing_fn = nn.Linear(in_channels, experts)
        self.drop_path = DropPath(drop_path)

    def forward(self, x: Tensor) -> Tensor:
        routing = self.routing_fn(x.mean((2, 3))).sigmoid()
        y = activate(self.bn1(self.conv_pw(x, routing)), self.act)
        y = activate(self.bn2(self.conv_dw(y, routing)), self.act)
        y = self.bn3(self.conv_pwl(self.se(y), routing))
        return self.drop_path(y) + x if self.has_residual else y
