"""From block strings to resolved blocks: width and depth multipliers and their rounding rules.

Compound scaling: Tan and Le, arXiv 1905.11946, section 3.3; the rounding rules are those of the released code
(tensorflow/tpu, efficientnet_model.py).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from .block_string import BlockSpec, parse_block
from .blocks import (
    Block,
    ConvBNAct,
    DepthwiseSeparable,
    FusedMBConv,
    InvertedResidual,
    MobileAttention,
    Stage,
    UniversalInvertedResidual,
)
from .conv import AntiAlias, SqueezeExcite


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


def round_channels(channels: float, *, divisor: int = 8, guard: bool = True) -> int:
    """The nearest multiple of ``divisor`` (halves up), with ``guard`` one step more where that would lose over 10 %."""
    rounded = max(divisor, int(channels + divisor / 2) // divisor * divisor)
    return rounded + divisor if guard and rounded < 0.9 * channels else rounded


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


@dataclass(frozen=True, kw_only=True)
class Style:
    """What the blocks of a network have in common and their strings do not say.

    Attributes:
        act: activation of blocks that name none.
        squeeze: None drops the ``se`` option.
        anti_alias: how strides are taken, None for by the convolutions.
        layer_scale: first value of the layer scale of the blocks that may have one, None for none.
        group_size: channels that a filter of a depthwise convolution reads; more than 1 makes it a grouped one.
        experts: factor of the ``cc`` option.
        round: from channels times the width multiplier to channels.
    """

    act: str
    squeeze: SqueezeRule | None = None
    anti_alias: AntiAlias | None = None
    layer_scale: float | None = None
    group_size: int = 1
    experts: int = 1
    round: Callable[[float], int] = round_channels


def resolve_stages(
    rows: Sequence[Sequence[str]],
    style: Style,
    *,
    in_channels: int,
    width: float = 1.0,
    depth: float | Sequence[float] = 1.0,
    scale_ends: bool = True,
) -> tuple[Stage, ...]:
    """Parse and scale the block strings of a network, one inner sequence a stage.

    Args:
        in_channels: channels that leave the stem, already scaled.
        depth: multiplier of the repeats, one for all stages or one each.
        scale_ends: False leaves the depth of the first and the last stage alone (EfficientNet-Lite).
    """
    depths = list(depth) if isinstance(depth, Sequence) else [depth] * len(rows)
    if not scale_ends:
        depths[0] = depths[-1] = 1.0
    stages = []
    for row, multiplier in zip(rows, depths, strict=True):
        specs = [parse_block(text) for text in row]
        repeats = scale_repeats([spec.repeats for spec in specs], multiplier)
        blocks: list[Block] = []
        for spec, count in zip(specs, repeats, strict=True):
            for repeat in range(count):
                # Only the first block of a stage strides.
                spec_here = replace(spec, stride=1) if blocks or repeat else spec
                blocks.append(_resolve_block(spec_here, in_channels, width, style))
                in_channels = blocks[-1].out_channels
        stages.append(tuple(blocks))
    return tuple(stages)


def _resolve_block(spec: BlockSpec, in_channels: int, width: float, style: Style) -> Block:
    act = spec.act or style.act
    out_channels = style.round(spec.channels * width)
    expanded = style.round(spec.expanded_channels * width) if spec.expanded_channels else in_channels
    mid_channels = in_channels if spec.kind in ("ds", "dsa") else round_channels(expanded * spec.expansion)
    se = style.squeeze.resolve(spec.se_ratio, in_channels, mid_channels, act) if style.squeeze else None
    common = {
        "in_channels": in_channels,
        "out_channels": out_channels,
        "kernel_size": spec.kernel_size,
        "stride": spec.stride,
        "act": act,
        "residual": spec.skip and spec.stride == 1 and in_channels == out_channels,
    }
    if spec.kind == "mqa":
        return MobileAttention(
            **common,
            heads=spec.heads,
            key_channels=spec.key_channels,
            key_stride=spec.key_stride,
            layer_scale=style.layer_scale,
        )
    common["anti_alias"] = style.anti_alias
    if spec.kind == "cn":
        return ConvBNAct(**common)
    if spec.kind == "uir":
        return UniversalInvertedResidual(
            **common,
            mid_channels=mid_channels,
            start_kernel_size=spec.start_kernel_size,
            end_kernel_size=spec.end_kernel_size,
            se=se,
            layer_scale=style.layer_scale,
        )
    if spec.kind == "er":
        return FusedMBConv(**common, mid_channels=mid_channels, se=se, group_size=spec.group_size or 0)
    group_size = spec.group_size or style.group_size
    if spec.kind == "ir":
        experts = spec.experts * style.experts
        return InvertedResidual(**common, mid_channels=mid_channels, se=se, group_size=group_size, experts=experts)
    project_act = act if spec.kind == "dsa" else "identity"
    return DepthwiseSeparable(**common, se=se, project_act=project_act, group_size=group_size)
