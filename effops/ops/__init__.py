"""Fused ops of the MobileNet and EfficientNet families. The table of all of them is :mod:`effops.ops.table`."""

from .attention import mobile_mqa
from .blocks import fused_mbconv, mbconv, uib
from .functional import (
    conv_act,
    depthwise_conv_act,
    kernel_layout,
    pointwise_conv_act,
    se_gate,
    squeeze_excite,
)
from .training import BatchNorm, Layer, SqueezeExcite, batch_norm_act, conv_bn_chain, depthwise_conv_bn_act

__all__ = [
    "BatchNorm",
    "Layer",
    "SqueezeExcite",
    "batch_norm_act",
    "conv_act",
    "conv_bn_chain",
    "depthwise_conv_act",
    "depthwise_conv_bn_act",
    "fused_mbconv",
    "kernel_layout",
    "mbconv",
    "mobile_mqa",
    "pointwise_conv_act",
    "se_gate",
    "squeeze_excite",
    "uib",
]
