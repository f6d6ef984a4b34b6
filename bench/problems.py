"""One op at one shape: its plain form, its inputs, and the call of effops that answers it.

A problem is a frozen dataclass, so that the same shape in two networks is one problem.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, TypeVar

import torch
from torch import Tensor, nn

from .case import Inputs
from .unfused import ConvAct, Gate, GatedPointwise

T = TypeVar("T")

SAME = "same"

Weights = tuple[Tensor, ...]


def _conv2d(in_channels: int, out_channels: int, kernel_size: int, stride: int, padding: int, groups: int) -> nn.Conv2d:
    conv = nn.Conv2d(in_channels, out_channels, kernel_size, stride, padding, groups=groups, bias=True)
    fan_in = in_channels // groups * kernel_size**2
    # Variance 2 / fan-in keeps values near 1: denormals would be timed instead of the op.
    nn.init.normal_(conv.weight, std=(2 / fan_in) ** 0.5)
    nn.init.normal_(conv.bias, std=0.1)
    return conv


class Problem(ABC):
    """One op at one shape."""

    op: ClassVar[str]

    @property
    @abstractmethod
    def label(self) -> str:
        """A readable name, different for every problem."""

    @abstractmethod
    def module(self) -> nn.Module:
        """The problem in plain torch, float32, with random weights."""

    @abstractmethod
    def inputs(self, batch: int, dtype: torch.dtype) -> Inputs:
        """One set of random inputs for :meth:`module`, NCHW in memory."""

    @abstractmethod
    def weights(self, module: nn.Module) -> Weights:
        """The weights of :meth:`module` in the order in which the function of ``effops.ops`` takes them."""

    @abstractmethod
    def apply(self, function: Callable[..., T], weights: Weights, inputs: Inputs) -> T:
        """Call a function that has the signature of the op in ``effops.ops``."""


@dataclass(frozen=True, kw_only=True)
class SpatialConv(Problem):
    """What the convolutions larger than 1x1 share.

    Attributes:
        size: side of the square input map.
        padding: a number, or "same" for TensorFlow's SAME.
    """

    size: int
    kernel_size: int
    stride: int
    padding: int | str
    act: str

    def _shape(self) -> str:
        same = " same" if self.padding == SAME else ""
        return f"k{self.kernel_size} s{self.stride}{same} {self.act}"

    def _unfused(self, in_channels: int, out_channels: int, groups: int, pool: bool) -> ConvAct:
        same = self.padding == SAME
        padding = 0 if same else self.padding
        conv = _conv2d(in_channels, out_channels, self.kernel_size, self.stride, padding, groups)
        return ConvAct(conv, same=same, act=self.act, pool=pool)

    def weights(self, module: ConvAct) -> Weights:
        return module.conv.weight, module.conv.bias


@dataclass(frozen=True, kw_only=True)
class DenseConv(SpatialConv):
    """A dense convolution: the stem."""

    op: ClassVar[str] = "conv_act"

    in_channels: int
    out_channels: int

    @property
    def label(self) -> str:
        return f"conv {self.size}x{self.size} {self.in_channels}>{self.out_channels} {self._shape()}"

    def module(self) -> ConvAct:
        return self._unfused(self.in_channels, self.out_channels, groups=1, pool=False)

    def inputs(self, batch: int, dtype: torch.dtype) -> Inputs:
        return (torch.randn(batch, self.in_channels, self.size, self.size, dtype=dtype),)

    def apply(self, function: Callable[..., T], weights: Weights, inputs: Inputs) -> T:
        return function(*inputs, *weights, stride=self.stride, padding=self.padding, act=self.act)


@dataclass(frozen=True, kw_only=True)
class DepthwiseConv(SpatialConv):
    """A depthwise convolution; ``pool`` asks for the spatial mean of the result too."""

    op: ClassVar[str] = "depthwise_conv_act"

    channels: int
    pool: bool

    @property
    def label(self) -> str:
        pool = " +pool" if self.pool else ""
        return f"depthwise {self.size}x{self.size} c{self.channels} {self._shape()}{pool}"

    def module(self) -> ConvAct:
        return self._unfused(self.channels, self.channels, groups=self.channels, pool=self.pool)

    def inputs(self, batch: int, dtype: torch.dtype) -> Inputs:
        return (torch.randn(batch, self.channels, self.size, self.size, dtype=dtype),)

    def apply(self, function: Callable[..., T], weights: Weights, inputs: Inputs) -> T:
        return function(*inputs, *weights, stride=self.stride, padding=self.padding, act=self.act, pool=self.pool)


@dataclass(frozen=True, kw_only=True)
class PointwiseConv(Problem):
    """A 1x1 convolution on a square map: expansion, projection or head."""

    op: ClassVar[str] = "pointwise_conv_act"

    size: int
    in_channels: int
    out_channels: int
    act: str
    gated: bool = False
    residual: bool = False

    @property
    def label(self) -> str:
        shape = f"{self.size}x{self.size} {self.in_channels}>{self.out_channels}"
        gated = " gate+" if self.gated else ""
        residual = " +residual" if self.residual else ""
        return f"pointwise {shape}{gated} {self.act}{residual}"

    def module(self) -> GatedPointwise:
        return GatedPointwise(_conv2d(self.in_channels, self.out_channels, 1, 1, 0, 1), act=self.act)

    def inputs(self, batch: int, dtype: torch.dtype) -> Inputs:
        image = (self.size, self.size)
        x = torch.randn(batch, self.in_channels, *image, dtype=dtype)
        gate = torch.rand(batch, self.in_channels) if self.gated else None
        residual = torch.randn(batch, self.out_channels, *image, dtype=dtype) if self.residual else None
        return x, gate, residual

    def weights(self, module: GatedPointwise) -> Weights:
        return module.conv.weight, module.conv.bias

    def apply(self, function: Callable[..., T], weights: Weights, inputs: Inputs) -> T:
        x, gate, residual = inputs
        return function(x, *weights, act=self.act, gate=gate, residual=residual)


@dataclass(frozen=True, kw_only=True)
class SqueezeExciteGate(Problem):
    """The two small layers of squeeze-excite, on the pooled vector."""

    op: ClassVar[str] = "se_gate"

    channels: int
    reduced: int
    act: str
    gate: str

    @property
    def label(self) -> str:
        return f"se {self.channels}>{self.reduced}>{self.channels} {self.act} {self.gate}"

    def module(self) -> Gate:
        reduce = _conv2d(self.channels, self.reduced, 1, 1, 0, 1)
        expand = _conv2d(self.reduced, self.channels, 1, 1, 0, 1)
        return Gate(reduce, expand, act=self.act, gate=self.gate)

    def inputs(self, batch: int, dtype: torch.dtype) -> Inputs:
        return (torch.randn(batch, self.channels),)

    def weights(self, module: Gate) -> Weights:
        return module.reduce.weight, module.reduce.bias, module.expand.weight, module.expand.bias

    def apply(self, function: Callable[..., T], weights: Weights, inputs: Inputs) -> T:
        return function(*inputs, *weights, act=self.act, gate=self.gate)
