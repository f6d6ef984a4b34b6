"""What blocks are made of, as data: convolutions, and the few learned things beside them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

# Anti-aliasing after a convolution that would stride: the mean of 2 x 2 pixels, or a fixed binomial filter.
AntiAlias = Literal["avg", "blur"]


@dataclass(frozen=True, kw_only=True)
class Conv:
    """One convolution of a block.

    Attributes:
        name: module path inside the block.
        bn: module path of the batch norm that follows, None for a convolution without a norm.
        gating: it belongs to a squeeze-excite and works on the pooled 1 x 1 map, not on the feature map.
        keys: it makes the keys or values of an attention, on a map of its own: with stride or taps it reads the
            feature map, as a 1 x 1 it reads what the one before it made.
        anti_alias: the convolution runs at stride 1 and this halves the map after it.
        experts: kernels that are mixed for every image (CondConv); 0 for one kernel.
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
    keys: bool = False
    anti_alias: AntiAlias | None = None
    experts: int = 0

    @property
    def depthwise(self) -> bool:
        return self.groups == self.in_channels == self.out_channels

    @property
    def weights(self) -> int:
        """Elements of one kernel."""
        return self.out_channels * self.in_channels // self.groups * self.kernel_size**2

    @property
    def weight_shape(self) -> tuple[int, ...]:
        """Shape of the weight in a ``state_dict``."""
        if self.experts:
            return (self.experts, self.weights)
        return (self.out_channels, self.in_channels // self.groups, self.kernel_size, self.kernel_size)

    def output_size(self, size: int, padding: str) -> int:
        """Side of the map that it makes of one of this side, before ``anti_alias``."""
        if padding == "same":
            return -(-size // self.stride)
        return (size + 2 * ((self.kernel_size - 1) // 2) - self.kernel_size) // self.stride + 1


@dataclass(frozen=True, kw_only=True)
class Learned:
    """Something with parameters beside the convolutions of a block.

    Attributes:
        name: module path inside the block.
        kind: "norm", the network's norm without a convolution; "scale", a factor for every channel; "linear", with
            bias.
        in_channels: for "linear" alone.
    """

    name: str
    kind: Literal["norm", "scale", "linear"]
    channels: int
    in_channels: int = 0

    @property
    def params(self) -> int:
        """Of a scale or a linear map; those of a norm are the network's to say."""
        return {"scale": 1, "linear": self.in_channels + 1}[self.kind] * self.channels

    @property
    def macs(self) -> int:
        return self.in_channels * self.channels


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
        style = {"bn": None, "bias": True, "gating": True}
        return (
            Conv(name="se.conv_reduce", in_channels=in_channels, out_channels=self.channels, **style),
            Conv(name="se.conv_expand", in_channels=self.channels, out_channels=in_channels, **style),
        )
