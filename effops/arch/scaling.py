"""From block strings to resolved blocks: width and depth multipliers and their rounding rules.

Compound scaling: Tan and Le, arXiv 1905.11946, section 3.3; the rounding rules are those of the released code
(tensorflow/tpu, efficientnet_model.py).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from .block_string import BlockSpec, parse_block
from .blocks import Block, ConvBNAct, DepthwiseSeparable, InvertedResidual, SqueezeExcite, Stage


@dataclass(frozen=True, kw_only=True)
class SqueezeRule:
    """How a family sizes its squeeze-excite.

    Attributes:
        base: the ratio is taken of the block's "input" (EfficientNet) or of the "expanded" channels
            (MobileNetV3).
        divisor: round to a multiple of it; 1 truncates.
        act: activation in the bottleneck, None for the block's own.
    """

    base: Literal["input", "expanded"]
    gate: str
    divisor: int = 1
    act: str | None = None

    def resolve(self, ratio: float, in_channels: int, mid_channels: int, block_act: str) -> SqueezeExcite | None:
        if ratio == 0:
            return None
        channels = ratio * (in_channels if self.base == "input" else mid_channels)
        reduced = max(1, int(channels)) if self.divisor == 1 else round_channels(channels, divisor=self.divisor)
        return SqueezeExcite(reduced, self.act or block_act, self.gate)


def round_channels(channels: float, *, divisor: int = 8) -> int:
    """The nearest multiple of ``divisor`` (halves up), one step more where that would lose over 10 %."""
    rounded = max(divisor, int(channels + divisor / 2) // divisor * divisor)
    return rounded + divisor if rounded < 0.9 * channels else rounded


def scale_repeats(repeats: Sequence[int], depth: float) -> list[int]:
    """Scale a stage's repeats: the sum becomes ceil(sum * depth), handed out in proportion, the last rows
    first.

    A stage of one row gives ceil(repeats * depth), the rule of EfficientNet. Starting from the back leaves a
    first row of its own kind, such as a stride-2 block, as short as it was.
    """
    remaining = sum(repeats)
    remaining_scaled = math.ceil(remaining * depth)
    scaled = []
    for count in reversed(repeats):
        share = max(1, round(count / remaining * remaining_scaled))
        scaled.append(share)
        remaining -= count
        remaining_scaled -= share
    return scaled[::-1]


def resolve_stages(
    rows: Sequence[Sequence[str]],
    *,
    in_channels: int,
    act: str,
    squeeze: SqueezeRule | None = None,
    width: float = 1.0,
    depth: float = 1.0,
    scale_ends: bool = True,
) -> tuple[Stage, ...]:
    """Parse and scale the block strings of a network, one inner sequence a stage.

    Args:
        in_channels: channels that leave the stem, already scaled.
        act: activation of blocks that name none.
        scale_ends: False leaves the depth of the first and the last stage alone (EfficientNet-Lite).
    """
    stages = []
    for index, row in enumerate(rows):
        specs = [parse_block(text) for text in row]
        at_end = index in (0, len(rows) - 1)
        repeats = scale_repeats([spec.repeats for spec in specs], 1.0 if at_end and not scale_ends else depth)
        blocks: list[Block] = []
        for spec, count in zip(specs, repeats, strict=True):
            for repeat in range(count):
                # Only the first block of a stage strides.
                spec_here = replace(spec, stride=1) if blocks or repeat else spec
                blocks.append(
                    _resolve_block(spec_here, in_channels, round_channels(spec.channels * width), act, squeeze)
                )
                in_channels = blocks[-1].out_channels
        stages.append(tuple(blocks))
    return tuple(stages)


def _resolve_block(
    spec: BlockSpec, in_channels: int, out_channels: int, act: str, squeeze: SqueezeRule | None
) -> Block:
    act = spec.act or act
    mid_channels = in_channels if spec.kind == "ds" else round_channels(in_channels * spec.expansion)
    se = squeeze.resolve(spec.se_ratio, in_channels, mid_channels, act) if squeeze else None
    common = {
        "in_channels": in_channels,
        "out_channels": out_channels,
        "kernel_size": spec.kernel_size,
        "stride": spec.stride,
        "act": act,
        "residual": spec.skip and spec.stride == 1 and in_channels == out_channels,
    }
    if spec.kind == "cn":
        return ConvBNAct(**common)
    if spec.kind == "ds":
        return DepthwiseSeparable(**common, se=se)
    return InvertedResidual(**common, mid_channels=mid_channels, se=se)
