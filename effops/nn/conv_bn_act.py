"""Convolution, batch norm and activation as one module: dense, depthwise and pointwise."""

from __future__ import annotations

from torch import Tensor, nn

from effops.ops import checks
from effops.ops.functional import conv_act, depthwise_conv_act, pointwise_conv_act
from effops.ops.training import conv_bn_chain

from .activation import activate
from .conv import Padding, conv2d, op_padding
from .folding import FoldingModule
from .training import layer


class ConvBNAct(FoldingModule):
    """Dense convolution, batch norm, activation: ``act(BN(conv(x)))``; the stem, and MobileNetV3's last 1 x 1.

    In eval one op on folded weights; in training a chain of one. Keys: ``conv``, ``bn1``.

    Args:
        padding: None (symmetric), "same" (TensorFlow's SAME) or zeros on each side.
        act: identity, relu, relu6, silu, hardswish or gelu.
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
        bn_eps: float = 1e-5,
        bn_momentum: float = 0.1,
    ) -> None:
        super().__init__()
        checks.activation_code(act)
        self.act = act
        self.conv = conv2d(in_channels, out_channels, kernel_size, stride=stride, padding=padding)
        self.bn1 = nn.BatchNorm2d(out_channels, eps=bn_eps, momentum=bn_momentum)

    def forward(self, x: Tensor) -> Tensor:
        folded = None if self.training else self._folded("conv", "bn1")
        if folded is None:
            return conv_bn_act(self.conv, self.bn1, x, self.act, memory=self.memory)
        return dense_conv_act(self.conv, x, *folded, act=self.act)


class DepthwiseConvBNAct(FoldingModule):
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
        checks.activation_code(act)
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
        folded = None if self.training else self._folded("conv", "bn")
        if folded is None:
            return conv_bn_act(self.conv, self.bn, x, self.act, memory=self.memory)
        conv = self.conv
        return depthwise_conv_act(
            x, *folded, stride=conv.stride, padding=op_padding(conv), dilation=conv.dilation, act=self.act
        )


class PointwiseConvBNAct(FoldingModule):
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
        checks.activation_code(act)
        self.act = act
        self.conv = conv2d(in_channels, out_channels, 1)
        self.bn = nn.BatchNorm2d(out_channels, eps=bn_eps, momentum=bn_momentum)

    def forward(self, x: Tensor) -> Tensor:
        folded = None if self.training else self._folded("conv", "bn")
        if folded is None:
            return conv_bn_act(self.conv, self.bn, x, self.act, memory=self.memory)
        return pointwise_conv_act(x, *folded, act=self.act)


def dense_conv_act(conv: nn.Conv2d, x: Tensor, weight: Tensor, bias: Tensor | None, *, act: str) -> Tensor:
    """Run a dense convolution's folded weights, a 1 x 1 one as the matrix product that it is."""
    if conv.kernel_size == (1, 1) and conv.stride == (1, 1) and conv.padding == (0, 0):
        return pointwise_conv_act(x, weight, bias, act=act)
    return conv_act(x, weight, bias, stride=conv.stride, padding=op_padding(conv), dilation=conv.dilation, act=act)


def conv_bn_act(conv: nn.Module, bn: nn.Module | None, x: Tensor, act: str, *, memory: str = "default") -> Tensor:
    """``act(bn(conv(x)))`` unfolded, for training: one chain where these modules allow it, else module by module."""
    only = layer(conv, bn, act)
    if only is not None:
        return conv_bn_chain(x, [only], memory=memory)
    x = conv(x)
    return activate(x if bn is None else bn(x), act)
