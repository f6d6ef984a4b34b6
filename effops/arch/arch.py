"""A whole network as data: what the builder, the counts, the key maps and the planner read."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal

from .blocks import Block, Stage
from .conv import Conv, Learned
from .fusion import Fusion
from .norm import BATCH_NORM, Norm

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
INCEPTION_MEAN = INCEPTION_STD = (0.5, 0.5, 0.5)

BN_EPS = 1e-5
BN_MOMENTUM = 0.1
# tensorflow/tpu and torchvision's ports of it: decay 0.99 is momentum 0.01 in torch's convention.
BN_EPS_TF = 1e-3
BN_MOMENTUM_TF = 0.01


@dataclass(frozen=True, kw_only=True)
class Preprocessing:
    """How an image becomes the input: resize the short side to resolution / crop_pct, crop the centre,
    normalise.

    Attributes:
        resolution: side of the square input in pixels.
        crop_mode: "squash" resizes both sides to resolution / crop_pct instead of the short one.
        interpolation: "bilinear" or "bicubic".
        mean, std: per channel, for pixels in [0, 1].
    """

    resolution: int = 224
    crop_pct: float = 0.875
    crop_mode: Literal["center", "squash"] = "center"
    interpolation: Literal["bilinear", "bicubic"] = "bicubic"
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD


@dataclass(frozen=True, kw_only=True)
class Stem:
    """The first convolution, ``conv_stem`` and ``bn1``.

    Attributes:
        bias: the convolution has one.
        nested: the names are ``conv_stem.conv`` and ``conv_stem.bn``.
    """

    channels: int
    act: str
    kernel_size: int = 3
    stride: int = 2
    bias: bool = False
    nested: bool = False


@dataclass(frozen=True, kw_only=True)
class Head:
    """The last 1 x 1 convolution, ``conv_head``, before or after the global pooling; a linear classifier
    follows.

    Attributes:
        pooled: the convolution works on the pooled vector (MobileNetV3) instead of the feature map.
        norm: batch norm (``bn2``, ``norm_head`` where pooled) follows; otherwise the convolution may have a bias.
        bias: it has one.
    """

    channels: int
    act: str
    pooled: bool = False
    norm: bool = True
    bias: bool = False

    @property
    def bn(self) -> str | None:
        """Name of the batch norm."""
        return ("norm_head" if self.pooled else "bn2") if self.norm else None


@dataclass(frozen=True, kw_only=True)
class Arch:
    """One network.

    Attributes:
        family: the paper's name of the family, as listed.
        head: None where the last stage is pooled and classified as it is.
        fusion: makes of the maps of several stages the one that is pooled, None for that of the last stage.
        padding: "symmetric" pads (k - 1) / 2 on both sides; "same" is TensorFlow's SAME, which puts the odd
            zero after.
        bn_eps: of the norms, of whatever kind.
        bn_momentum: weight of the new value, as in torch.
        norm: what is in the place of every batch norm.
        drop_rate: dropout before the classifier in the published training.
        source: paper or code that the row was taken from.
        tag: name of the trained weights that the preprocessing is of, "" for the row's own.
        num_classes: of those weights.
        global_pool: before the classifier, "" for an encoder, which gives a map.
        port: the trained weights that the row fits. The same layers trained elsewhere need another padding or
            batch norm eps, which no shape reveals.
    """

    name: str
    family: str
    stem: Stem
    stages: tuple[Stage, ...]
    head: Head | None
    source: str
    port: Literal["timm", "tensorflow", "torchvision"] = "timm"
    padding: Literal["symmetric", "same"] = "symmetric"
    bn_eps: float = BN_EPS
    bn_momentum: float = BN_MOMENTUM
    norm: Norm = BATCH_NORM
    fusion: Fusion | None = None
    drop_rate: float = 0.0
    preprocessing: Preprocessing = Preprocessing()
    tag: str = ""
    num_classes: int = 1000
    global_pool: Literal["avg", ""] = "avg"

    @property
    def resolution(self) -> int:
        return self.preprocessing.resolution

    @property
    def trunk_channels(self) -> int:
        """Channels that leave the stages, fused where they are."""
        return self.fusion.block.out_channels if self.fusion else self.stages[-1][-1].out_channels

    @property
    def num_features(self) -> int:
        """Channels that leave ``forward_features``."""
        return self.trunk_channels if self.head is None or self.head.pooled else self.head.channels

    @property
    def classifier_channels(self) -> int:
        """Inputs of the classifier."""
        return self.head.channels if self.head else self.trunk_channels

    def same_layers(self, other: Arch) -> bool:
        """Whether a checkpoint of one fits the other, tensor by tensor."""
        fields = ("stem", "stages", "fusion", "head", "norm")
        return all(getattr(self, field) == getattr(other, field) for field in fields)

    def stem_conv(self, in_chans: int = 3) -> Conv:
        return Conv(
            name="conv_stem.conv" if self.stem.nested else "conv_stem",
            bn="conv_stem.bn" if self.stem.nested else "bn1",
            in_channels=in_chans,
            out_channels=self.stem.channels,
            kernel_size=self.stem.kernel_size,
            stride=self.stem.stride,
            bias=self.stem.bias,
        )

    def head_conv(self) -> Conv | None:
        if self.head is None:
            return None
        return Conv(
            name="conv_head",
            bn=self.head.bn,
            in_channels=self.trunk_channels,
            out_channels=self.head.channels,
            bias=self.head.bias,
        )

    def convs(self, in_chans: int = 3) -> Iterator[Conv]:
        """Every convolution from the stem to the head, with the module path inside the model."""
        yield self.stem_conv(in_chans)
        for prefix, block in self.blocks():
            for conv in block.convs():
                yield replace(conv, name=prefix + conv.name, bn=conv.bn and prefix + conv.bn)
        head = self.head_conv()
        if head:
            yield head

    def learned(self) -> Iterator[Learned]:
        """What the blocks learn beside the convolutions and their norms, with the path inside the model."""
        for prefix, block in self.blocks():
            for item in block.learned():
                yield replace(item, name=prefix + item.name)
        if self.fusion:
            yield Learned(name="msfa.norm", kind="norm", channels=self.fusion.block.out_channels)

    def blocks(self) -> Iterator[tuple[str, Block]]:
        """Every block with the beginning of its names, such as ``blocks.0.1.``; the fusion's is ``msfa.ffn.``."""
        for stage_index, stage in enumerate(self.stages):
            for block_index, block in enumerate(stage):
                yield f"blocks.{stage_index}.{block_index}.", block
        if self.fusion:
            yield "msfa.ffn.", self.fusion.block


def tensorflow_twin(arch: Arch) -> Arch:
    """The ``tf_`` twin: the same layers with TensorFlow's padding and eps, for weights trained there."""
    return replace(arch, name=f"tf_{arch.name}", port="tensorflow", padding="same", bn_eps=BN_EPS_TF)


def torchvision_twin(
    arch: Arch,
    name: str,
    preprocessing: Preprocessing,
    *,
    bn_eps: float = BN_EPS,
    bn_momentum: float = BN_MOMENTUM,
) -> Arch:
    """The same layers with torchvision's numbers."""
    twin = replace(arch, name=name, port="torchvision", source="torchvision", preprocessing=preprocessing)
    return replace(twin, bn_eps=bn_eps, bn_momentum=bn_momentum)
