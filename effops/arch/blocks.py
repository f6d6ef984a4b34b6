"""The blocks that the networks are made of, as data: every channel count is resolved, nothing is left to
round.

A block lists its convolutions (:meth:`Block.convs`) under the module names that its ``state_dict`` has. The
counts, the key maps and the planner read that list; a new kind of block needs one class here and one module
in ``effops.nn``.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

from .conv import AntiAlias, Conv, Learned, SqueezeExcite


@dataclass(frozen=True, kw_only=True)
class Block(ABC):
    """What all blocks have.

    Attributes:
        kernel_size: of the block's spatial convolution, 0 where it has none.
        stride: of the block's spatial convolution.
        act: activation after every convolution that is not a linear projection.
        residual: the block's input is added to its output.
        anti_alias: how a stride of 2 is taken, if not by the convolution itself.
    """

    in_channels: int
    out_channels: int
    kernel_size: int
    stride: int
    act: str
    residual: bool
    anti_alias: AntiAlias | None = None

    @abstractmethod
    def convs(self) -> tuple[Conv, ...]:
        """The convolutions in the order in which they run."""

    def learned(self) -> tuple[Learned, ...]:
        """What has parameters beside the convolutions and their norms."""
        return ()

    def attention_macs(self, pixels: int, key_pixels: int) -> int:
        """Multiply-accumulates of an attention's two products."""
        return 0

    def _strided(self) -> dict:
        """The arguments of the convolution that takes the block's stride."""
        if self.stride > 1 and self.anti_alias:
            return {"stride": 1, "anti_alias": self.anti_alias}
        return {"stride": self.stride}


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
                **self._strided(),
            ),
        )


@dataclass(frozen=True, kw_only=True)
class DepthwiseSeparable(Block):
    """Depthwise convolution, optional squeeze-excite, pointwise projection (``ds``, ``dsa``).

    Attributes:
        project_act: activation after the projection; "identity" but for MobileNetV1.
        group_size: channels that a filter of the spatial convolution reads.
    """

    se: SqueezeExcite | None = None
    project_act: str = "identity"
    group_size: int = 1

    def convs(self) -> tuple[Conv, ...]:
        depthwise = Conv(
            name="conv_dw",
            bn="bn1",
            in_channels=self.in_channels,
            out_channels=self.in_channels,
            kernel_size=self.kernel_size,
            groups=self.in_channels // self.group_size,
            **self._strided(),
        )
        project = Conv(name="conv_pw", bn="bn2", in_channels=self.in_channels, out_channels=self.out_channels)
        return (depthwise, *(self.se.convs(self.in_channels) if self.se else ()), project)


@dataclass(frozen=True, kw_only=True)
class InvertedResidual(Block):
    """Pointwise expansion, depthwise convolution, optional squeeze-excite, linear projection (``ir``,
    MBConv).

    Sandler et al., arXiv 1801.04381, section 3.3.

    Attributes:
        group_size: channels that a filter of the spatial convolution reads.
        experts: kernels of each of the three convolutions, mixed for every image by a sigmoid of a linear map of the
            mean of the block's input (CondConv: Yang et al., arXiv 1904.04971); 0 for one kernel.
    """

    mid_channels: int
    se: SqueezeExcite | None = None
    group_size: int = 1
    experts: int = 0

    def convs(self) -> tuple[Conv, ...]:
        mid, experts = self.mid_channels, self.experts
        expand = Conv(name="conv_pw", bn="bn1", in_channels=self.in_channels, out_channels=mid, experts=experts)
        depthwise = Conv(
            name="conv_dw",
            bn="bn2",
            in_channels=mid,
            out_channels=mid,
            kernel_size=self.kernel_size,
            groups=mid // self.group_size,
            experts=experts,
            **self._strided(),
        )
        project = Conv(name="conv_pwl", bn="bn3", in_channels=mid, out_channels=self.out_channels, experts=experts)
        return (expand, depthwise, *(self.se.convs(mid) if self.se else ()), project)

    def learned(self) -> tuple[Learned, ...]:
        if not self.experts:
            return ()
        return (Learned(name="routing_fn", kind="linear", channels=self.experts, in_channels=self.in_channels),)


@dataclass(frozen=True, kw_only=True)
class FusedMBConv(Block):
    """One dense convolution in the place of expansion and depthwise convolution, linear projection (``er``).

    Tan and Le, arXiv 2104.00298, section 3.2; EfficientNet-EdgeTPU had it first.

    Attributes:
        group_size: channels that a filter of the expansion makes together, 0 for a dense one.
    """

    mid_channels: int
    se: SqueezeExcite | None = None
    group_size: int = 0

    def convs(self) -> tuple[Conv, ...]:
        expand = Conv(
            name="conv_exp",
            bn="bn1",
            in_channels=self.in_channels,
            out_channels=self.mid_channels,
            kernel_size=self.kernel_size,
            groups=self.mid_channels // self.group_size if self.group_size else 1,
            **self._strided(),
        )
        project = Conv(name="conv_pwl", bn="bn2", in_channels=self.mid_channels, out_channels=self.out_channels)
        return (expand, *(self.se.convs(self.mid_channels) if self.se else ()), project)


@dataclass(frozen=True, kw_only=True)
class UniversalInvertedResidual(Block):
    """Universal inverted bottleneck (``uir``): Qin et al., arXiv 2404.10518, section 4.

    An inverted residual whose depthwise convolution is optional, with optional ones before the expansion and after
    the projection, neither of them with an activation. The first of start and middle that is there, from the middle
    on, takes the stride.

    Attributes:
        kernel_size: of the depthwise convolution in the middle, 0 for none.
        start_kernel_size, end_kernel_size: of the others, 0 for none.
        layer_scale: first value of the factor of every output channel, None for no such factor.
    """

    mid_channels: int
    start_kernel_size: int = 0
    end_kernel_size: int = 0
    se: SqueezeExcite | None = None
    layer_scale: float | None = None

    def convs(self) -> tuple[Conv, ...]:
        mid = self.mid_channels
        strided = "dw_mid" if self.kernel_size else "dw_start" if self.start_kernel_size else "dw_end"
        found = []
        for name, channels, kernel_size in (
            ("dw_start", self.in_channels, self.start_kernel_size),
            ("dw_mid", mid, self.kernel_size),
            ("dw_end", self.out_channels, self.end_kernel_size),
        ):
            if kernel_size:
                shape = {"in_channels": channels, "out_channels": channels, "groups": channels}
                stride = self._strided() if name == strided else {}
                found.append(_named(name, kernel_size=kernel_size, **shape, **stride))
            if name == "dw_start":
                found.append(_named("pw_exp", in_channels=self.in_channels, out_channels=mid))
            elif name == "dw_mid":
                found += self.se.convs(mid) if self.se else ()
                found.append(_named("pw_proj", in_channels=mid, out_channels=self.out_channels))
        return tuple(found)

    def learned(self) -> tuple[Learned, ...]:
        return _layer_scale(self.layer_scale, self.out_channels)


@dataclass(frozen=True, kw_only=True)
class MobileAttention(Block):
    """Batch norm, multi-query attention over all pixels, layer scale, residual (``mqa``).

    Qin et al., arXiv 2404.10518, section 5: the heads share keys and values, which may come from a smaller map.

    Attributes:
        kernel_size: of the depthwise convolution that makes the smaller map.
        heads: number of queries a pixel.
        key_channels: length of a query, of a key and of a value.
        key_stride: how much smaller the map of keys and values is; 1 for none.
        layer_scale: first value of the factor of every output channel, None for no such factor.
    """

    heads: int
    key_channels: int
    key_stride: int = 1
    layer_scale: float | None = None

    def convs(self) -> tuple[Conv, ...]:
        channels, keys = self.in_channels, self.key_channels
        found = [Conv(name="attn.query.proj", bn=None, in_channels=channels, out_channels=self.heads * keys)]
        for name in ("key", "value"):
            if self.key_stride > 1:
                found.append(
                    Conv(
                        name=f"attn.{name}.down_conv",
                        bn=f"attn.{name}.norm",
                        in_channels=channels,
                        out_channels=channels,
                        kernel_size=self.kernel_size,
                        stride=self.key_stride,
                        groups=channels,
                        keys=True,
                    )
                )
            project = f"attn.{name}.proj"
            found.append(Conv(name=project, bn=None, in_channels=channels, out_channels=keys, keys=True))
        output = "attn.output.proj"
        found.append(Conv(name=output, bn=None, in_channels=self.heads * keys, out_channels=self.out_channels))
        return tuple(found)

    def learned(self) -> tuple[Learned, ...]:
        norm = Learned(name="norm", kind="norm", channels=self.in_channels)
        return (norm, *_layer_scale(self.layer_scale, self.out_channels))

    def attention_macs(self, pixels: int, key_pixels: int) -> int:
        return 2 * self.heads * self.key_channels * pixels * key_pixels


def _named(name: str, **shape: object) -> Conv:
    """A convolution and its norm inside a module of their own."""
    return Conv(name=f"{name}.conv", bn=f"{name}.bn", **shape)


def _layer_scale(init: float | None, channels: int) -> tuple[Learned, ...]:
    return () if init is None else (Learned(name="layer_scale", kind="scale", channels=channels),)


Stage = tuple[Block, ...]
