"""Fused ops of the MobileNet and EfficientNet families. The table of all of them is :mod:`effops.ops.table`."""

from .functional import (
    conv_act,
    depthwise_conv_act,
    kernel_layout,
    pointwise_conv_act,
    se_gate,
    squeeze_excite,
)

__all__ = [
    "conv_act",
    "depthwise_conv_act",
    "kernel_layout",
    "pointwise_conv_act",
    "se_gate",
    "squeeze_excite",
]
