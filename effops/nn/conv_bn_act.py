"""Convolution, batch norm and activation as one module: dense, depthwise and pointwise."""

from __future__ import annotations

from torch import Tensor, nn

from .activation import check_activation
from .anti_alias import pool_and_stride
from .conv import Padding, conv2d
from .drop_path import DropPath
from .units import Unit, UnitModule


class ConvBNAct(UnitModule):
    """Dense convolution, batch norm, activation: ``act(BN(conv(x)))``; the stem, and MobileNetV3's last 1 x 1.

    In eval one op on folded weights; in training a chain of one. Keys: ``conv``, ``bn1``.

    Args:
        padding: None (symmetric), "same" (TensorFlow's SAME) or zeros on each side.
        act: identity, relu, relu6, silu, hardswish or gelu.
        residual: add the input at stride 1 with equal channels (EfficientNetV2).
        drop_path: stochastic depth rate of the residual branch, in training.
        anti_alias: "avg" or "blur" takes the stride after the convolution, None in it.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int = 3,
        *,
        stride: int = 1,
        padding: Padding = None,
        act: str = "relu",
        residual: bool = False,
        drop_path: float = 0.0,
        anti_alias: str | None = None,
        bn_eps: float = 1e-5,
        bn_momentum: float = 0.1,
    ) -> None:
        super().__init__()
        check_activation(act)
        self.act = act
        self.has_residual = residual and stride == 1 and in_channels == out_channels
        self.aa, stride = pool_and_stride(anti_alias, out_channels, stride)
        self.conv = conv2d(in_channels, out_channels, kernel_size, stride=stride, padding=padding)
        self.bn1 = nn.BatchNorm2d(out_channels, eps=bn_eps, momentum=bn_momentum)
        self.drop_path = DropPath(drop_path)

    def forward(self, x: Tensor) -> Tensor:
        return self._run(self._units, x, residual=self.has_residual, drop_path=self.drop_path)

    def _units(self) -> list[Unit]:
        return [Unit("conv", self.conv, self.bn1, self.act, pool=self.aa)]


class DepthwiseConvBNAct(UnitModule):
    """Depthwise convolution, batch norm, activation: ``act(BN(dwconv(x)))``.

    In eval one op on folded weights; in training a chain of one. Keys: ``conv``, ``bn``.

    Args:
        padding: None (symmetric), "same" (TensorFlow's SAME) or zeros on each side.
        act: identity, relu, relu6, silu, hardswish or gelu.
    """

    def __init__(
        self,
        channels: int,
        kernel_size: int = 3,
        *,
        stride: int = 1,
        padding: Padding = None,
        dilation: int = 1,
        act: str = "relu",
        bn_eps: float = 1e-5,
        bn_momentum: float = 0.1,
    ) -> None:
        super().__init__()
        check_activation(act)
        self.act = act
        self.conv = conv2d(
            channels,
            channels,
            kernel_size,
            stride=stride,
            padding=padding,
            dilation=dilation,
            groups=channels,
        )
        self.bn = nn.BatchNorm2d(channels, eps=bn_eps, momentum=bn_momentum)

    def forward(self, x: Tensor) -> Tensor:
        return self._run(lambda: [Unit("conv", self.conv, self.bn, self.act)], x)


class PointwiseConvBNAct(UnitModule):
    """1 x 1 convolution, batch norm, activation: ``act(BN(W x))``.

    In eval one op on folded weights; in training a chain of one. Keys: ``conv``, ``bn``.

    Args:
        act: identity, relu, relu6, silu, hardswish or gelu.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        act: str = "relu",
        bn_eps: float = 1e-5,
        bn_momentum: float = 0.1,
    ) -> None:
        super().__init__()
        check_activation(act)
        self.act = act
        self.conv = conv2d(in_channels, out_channels, 1)
        self.bn = nn.BatchNorm2d(out_channels, eps=bn_eps, momentum=bn_momentum)

    def forward(self, x: Tensor) -> Tensor:
        return self._run(lambda: [Unit("conv", self.conv, self.bn, self.act)], x)
