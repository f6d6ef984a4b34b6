"""Analytic counts of a network: parameters, multiply-accumulates, convolution outputs.

Exact integers, without building anything. A multiply-accumulate counts once; convolutions, the classifier, the products
of attention and the mixing of CondConv's kernels count, elementwise work and fixed filters do not. "Activations" are
the output elements of the convolutions and the classifier for a batch of one, without those inside squeeze-excite.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from effops.errors import ArgumentError

from .arch import Arch
from .blocks import Block
from .conv import Conv
from .fusion import Fusion


@dataclass(frozen=True)
class Counts:
    """Counts of a part of a network; parts add up.

    Attributes:
        params: trainable parameters.
        bn_stats: elements of the running means and variances.
        activations: output elements of convolutions and classifier.
        dw_macs: the part of ``macs`` in depthwise convolutions.
    """

    params: int = 0
    bn_stats: int = 0
    macs: int = 0
    activations: int = 0
    dw_macs: int = 0

    @property
    def params_with_bn_stats(self) -> int:
        return self.params + self.bn_stats

    def __add__(self, other: Counts) -> Counts:
        return Counts(
            self.params + other.params,
            self.bn_stats + other.bn_stats,
            self.macs + other.macs,
            self.activations + other.activations,
            self.dw_macs + other.dw_macs,
        )


@dataclass(frozen=True)
class Part:
    """One part of a network: the stem, a stage, or the head.

    Attributes:
        name: module path: "stem", "blocks.0", ..., "head".
        depth: number of blocks.
        in_size, out_size: sides of the feature map in pixels.
    """

    name: str
    depth: int
    in_channels: int
    out_channels: int
    in_size: int
    out_size: int
    counts: Counts


def parts(
    arch: Arch, *, resolution: int | None = None, num_classes: int | None = None, in_chans: int = 3
) -> list[Part]:
    """Count a network part by part, for a square input of side ``resolution``; None stands for the network's own.

    Raises:
        ArgumentError: a resolution below 1, a negative number of classes, or less than one input channel.
    """
    size = arch.resolution if resolution is None else resolution
    if size < 1:
        raise ArgumentError(f"resolution must be at least 1 pixel, got {size}")
    num_classes = arch.num_classes if num_classes is None else num_classes
    if num_classes < 0:
        raise ArgumentError(f"num_classes must be 0 (no classifier) or more, got {num_classes}")
    if in_chans < 1:
        raise ArgumentError(f"in_chans must be at least 1, got {in_chans}")
    stem = arch.stem_conv(in_chans)
    counter = _Counter(arch)
    counts, out_size = counter.conv(stem, size)
    found = [Part("stem", 1, in_chans, stem.out_channels, size, out_size, counts)]
    for index, stage in enumerate(arch.stages):
        in_size, counts = out_size, Counts()
        for block in stage:
            block_counts, out_size = counter.block(block, out_size)
            counts += block_counts
        name = f"blocks.{index}"
        found.append(Part(name, len(stage), stage[0].in_channels, stage[-1].out_channels, in_size, out_size, counts))
    width, counts, in_size = arch.classifier_channels, Counts(), out_size
    if arch.fusion:
        counts = counter.fusion(arch.fusion, found[arch.fusion.stages[0]].out_size)
        out_size = arch.fusion.resolution
    if head := arch.head_conv():
        counts += counter.conv(head, 1 if arch.head.pooled else out_size)[0]
    counts += Counts(params=(width + 1) * num_classes, macs=width * num_classes, activations=num_classes)
    out_size = 1 if arch.global_pool else out_size
    found.append(Part("head", 1, found[-1].out_channels, num_classes or width, in_size, out_size, counts))
    return found


def total(parts_of_network: Iterable[Part]) -> Counts:
    return sum((part.counts for part in parts_of_network), Counts())


class _Counter:
    def __init__(self, arch: Arch) -> None:
        self._padding = arch.padding
        self._norm = arch.norm

    def block(self, block: Block, size: int) -> tuple[Counts, int]:
        """Counts of a block, and the side of the map that leaves it."""
        counts, key_size = Counts(), size
        for conv in block.convs():
            if conv.gating:
                counts += self.conv(conv, 1)[0]
            elif conv.keys:
                added, key_size = self.conv(conv, size if conv.kernel_size > 1 else key_size)
                counts += added
            else:
                added, size = self.conv(conv, size)
                counts += added
        counts += Counts(macs=block.attention_macs(size * size, key_size * key_size))
        for item in block.learned():
            norm = item.kind == "norm"
            counts += self.norm(item.channels) if norm else Counts(params=item.params, macs=item.macs)
        return counts, size

    def fusion(self, fusion: Fusion, size: int) -> Counts:
        """Counts of a fusion at the side of its largest map."""
        counts, _ = self.block(fusion.block, size)
        return counts + self.norm(fusion.block.out_channels)

    def norm(self, channels: int) -> Counts:
        """Counts of a norm of so many channels."""
        return Counts(params=len(self._norm.learned) * channels, bn_stats=len(self._norm.statistics) * channels)

    def conv(self, conv: Conv, size: int) -> tuple[Counts, int]:
        """Counts of a convolution and its norm, and the side of the map that leaves it."""
        size = conv.output_size(size, self._padding)
        pixels = size * size
        macs = conv.weights * (pixels + conv.experts)
        counts = Counts(
            params=conv.weights * max(1, conv.experts) + (conv.out_channels if conv.bias else 0),
            macs=macs,
            activations=0 if conv.gating else conv.out_channels * pixels,
            dw_macs=macs if conv.depthwise else 0,
        )
        if conv.bn:
            counts += self.norm(conv.out_channels)
        # The blur keeps an odd row, the mean of 2 x 2 drops it.
        return counts, size if conv.anti_alias is None else (size + (conv.anti_alias == "blur")) // 2
