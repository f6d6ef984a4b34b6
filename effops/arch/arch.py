"""A whole network as data: what the builder, the counts, the key maps and the planner read."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal

from .blocks import Conv, Stage

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
        interpolation: "bilinear" or "bicubic".
        mean, std: per channel, for pixels in [0, 1].
    """

    resolution: int = 224
    crop_pct: float = 0.875
    interpolation: Literal["bilinear", "bicubic"] = "bicubic"
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD


@dataclass(frozen=True, kw_only=True)
class Stem:
    """The first convolution, ``conv_stem`` and ``bn1``."""

    channels: int
    act: str
    kernel_size: int = 3
    stride: int = 2


@dataclass(frozen=True, kw_only=True)
class Head:
    """The last 1 x 1 convolution, ``conv_head``, before or after the global pooling; a linear classifier
    follows.

    Attributes:
        pooled: the convolution works on the pooled vector (MobileNetV3) instead of the feature map.
        norm: batch norm (``bn2``) follows; otherwise the convolution has a bias.
    """

    channels: int
    act: str
    pooled: bool = False
    norm: bool = True


@dataclass(frozen=True, kw_only=True)
class Arch:
    """One network.

    Attributes:
        family: the paper's name of the family, as listed.
        padding: "symmetric" pads (k - 1) / 2 on both sides; "same" is TensorFlow's SAME, which puts the odd
            zero after.
        bn_momentum: weight of the new value, as in torch.
        drop_rate: dropout before the classifier in the published training.
        source: paper or code that the row was taken from.
        port: the trained weights that the row fits. The same layers trained elsewhere need another padding or
            batch norm eps, which no shape reveals.
    """

    name: str
    family: str
    stem: Stem
    stages: tuple[Stage, ...]
    head: Head
    source: str
    port: Literal["timm", "tensorflow", "torchvision"] = "timm"
    padding: Literal["symmetric", "same"] = "symmetric"
    bn_eps: float = BN_EPS
    bn_momentum: float = BN_MOMENTUM
    drop_rate: float = 0.0
    preprocessing: Preprocessing = Preprocessing()

    @property
    def resolution(self) -> int:
        return self.preprocessing.resolution

    @property
    def trunk_channels(self) -> int:
        """Channels that leave the last stage."""
        return self.stages[-1][-1].out_channels

    @property
    def num_features(self) -> int:
        """Channels that leave ``forward_features``."""
        return self.trunk_channels if self.head.pooled else self.head.channels

    def same_layers(self, other: Arch) -> bool:
        """Whether a checkpoint of one fits the other, tensor by tensor."""
        return (self.stem, self.stages, self.head) == (other.stem, other.stages, other.head)

    def stem_conv(self, in_chans: int = 3) -> Conv:
        return Conv(
            name="conv_stem",
            bn="bn1",
            in_channels=in_chans,
            out_channels=self.stem.channels,
            kernel_size=self.stem.kernel_size,
            stride=self.stem.stride,
        )

    def head_conv(self) -> Conv:
        return Conv(
            name="conv_head",
            bn="bn2" if self.head.norm else None,
            in_channels=self.trunk_channels,
            out_channels=self.head.channels,
            bias=not self.head.norm,
        )

    def convs(self, in_chans: int = 3) -> Iterator[Conv]:
        """Every convolution from the stem to the head, with the module path inside the model."""
        yield self.stem_conv(in_chans)
        for stage_index, stage in enumerate(self.stages):
            for block_index, block in enumerate(stage):
                prefix = f"blocks.{stage_index}.{block_index}."
                for conv in block.convs():
                    yield replace(conv, name=prefix + conv.name, bn=conv.bn and prefix + conv.bn)
        yield self.head_conv()


def tensorflow_twin(arch: Arch) -> Arch:
    """The ``tf_`` twin: the same layers with TensorFlow's padding and eps, for weights trained there."""
    return replace(arch, name=f"tf_{arch.name}", port="tensorflow", padding="same", bn_eps=BN_EPS_TF)


def torchvision_twin(arch: Arch, name: str, preprocessing: Preprocessing, *, tensorflow_norm: bool) -> Arch:
    """The same layers with torchvision's numbers; ``tensorflow_norm`` where those are TensorFlow's norm."""
    twin = replace(arch, name=name, port="torchvision", source="torchvision", preprocessing=preprocessing)
    return replace(twin, bn_eps=BN_EPS_TF, bn_momentum=BN_MOMENTUM_TF) if tensorflow_norm else twin
