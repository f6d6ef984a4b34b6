"""The blocks that the networks are made of, as data: every channel count is resolved, nothing is left to
round.

A block lists its convolutions (:meth:`Block.convs`) under the module names that its ``state_dict`` has. The
counts, the key maps and the planner read that list; a new kind of block needs one class here and one module
in ``effops.nn``.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Conv:
    """One convolution of a block.

    Attributes:
        name: module path inside the block.
        bn: module path of the batch norm that follows, None for a convolution with a bias and no norm.
        gating: it belongs to a squeeze-excite and works on the pooled 1 x 1 map, not on the feature map.
    """

    name: str
    bn: str | None
    in_channels: int
    out_channels: int
    kernel_size: int = 1
    stride: int = 1
    groups: int = 1
    bias: bool = False
    gating: bool = False

    @property
    def depthwise(self) -> bool:
        return self.groups == self.in_channels == self.out_channels


@dataclass(frozen=True)
class SqueezeExcite:
    """Squeeze-and-excitation (Hu et al., arXiv 1709.01507): x * gate(W2 act(W1 mean(x) + b1) + b2).

    Attributes:
        channels: width of the bottleneck between W1 and W2.
        act: activation inside the bottleneck.
        gate: "sigmoid" or "hardsigmoid".
    """

    channels: int
    act: str
    gate: str

    def convs(self, in_channels: int) -> tuple[Conv, Conv]:
        return (
            Conv(
                name="se.conv_reduce",
                bn=None,
                in_channels=in_channels,
                out_channels=self.channels,
                bias=True,
                gating=True,
            ),
            Conv(
                name="se.conv_expand",
                bn=None,
                in_channels=self.channels,
                out_channels=in_channels,
                bias=True,
                gating=True,
            ),
        )


@dataclass(frozen=True, kw_only=True)
class Block(ABC):
    """What all blocks have.

    Attributes:
        stride: of the block's spatial convolution.
        act: activation after every convolution that is not a linear projection.
        residual: the block's input is added to its output.
    """

    in_channels: int
    out_channels: int
    kernel_size: int
    stride: int
    act: str
    residual: bool

    @abstractmethod
    def convs(self) -> tuple[Conv, ...]:
        """The convolutions in the order in which they run."""


@dataclass(frozen=True, kw_only=True)
class ConvBNAct(Block):
    """A dense convolution with batch norm and activation (``cn``)."""

    def convs(self) -> tuple[Conv, ...]:
        return (
            Conv(
                name="conv",
                bn="bn1",
                in_channels=self.in_channels,
                out_channels=self.out_channels,
                kernel_size=self.kernel_size,
                stride=self.stride,
            ),
        )


@dataclass(frozen=True, kw_only=True)
class DepthwiseSeparable(Block):
    """Depthwise convolution, optional squeeze-excite, linear pointwise projection (``ds``)."""

    se: SqueezeExcite | None = None

    def convs(self) -> tuple[Conv, ...]:
        depthwise = Conv(
            name="conv_dw",
            bn="bn1",
            in_channels=self.in_channels,
            out_channels=self.in_channels,
            kernel_size=self.kernel_size,
            stride=self.stride,
            groups=self.in_channels,
        )
        project = Conv(name="conv_pw", bn="bn2", in_channels=self.in_channels, out_channels=self.out_channels)
        return (depthwise, *(self.se.convs(self.in_channels) if self.se else ()), project)


@dataclass(frozen=True, kw_only=True)
class InvertedResidual(Block):
    """Pointwise expansion, depthwise convolution, optional squeeze-excite, linear projection (``ir``,
    MBConv).

    Sandler et al., arXiv 1801.04381, section 3.3.
    """

    mid_channels: int
    se: SqueezeExcite | None = None

    def convs(self) -> tuple[Conv, ...]:
        expand = Conv(name="conv_pw", bn="bn1", in_channels=self.in_channels, out_channels=self.mid_channels)
        depthwise = Conv(
            name="conv_dw",
            bn="bn2",
            in_channels=self.mid_channels,
            out_channels=self.mid_channels,
            kernel_size=self.kernel_size,
            stride=self.stride,
            groups=self.mid_channels,
        )
        project = Conv(name="conv_pwl", bn="bn3", in_channels=self.mid_channels, out_channels=self.out_channels)
        return (expand, depthwise, *(self.se.convs(self.mid_channels) if self.se else ()), project)


Stage = tuple[Block, ...]
