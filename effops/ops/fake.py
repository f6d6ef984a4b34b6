"""Shapes, dtypes and strides of every op's outputs, for tracing. All image outputs are channels_last."""

from __future__ import annotations

import torch
from torch import Tensor

from .shape import output_size


def image_like(like: Tensor, channels: int, height: int, width: int) -> Tensor:
    """A channels_last image of like's batch, dtype and device."""
    size = (like.shape[0], channels, height, width)
    return torch.empty(size, dtype=like.dtype, device=like.device, memory_format=torch.channels_last)


def accumulated(like: Tensor, *size: int) -> Tensor:
    """A dense tensor of this size in the dtype that values of like's dtype are accumulated in."""
    dtype = torch.float64 if like.dtype == torch.float64 else torch.float32
    return torch.empty(size, dtype=dtype, device=like.device)


def conv_act(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride_h: int,
    stride_w: int,
    pad_h: int,
    pad_w: int,
    dilation_h: int,
    dilation_w: int,
    act: int,
) -> Tensor:
    height = output_size(x.shape[2], weight.shape[2], stride_h, pad_h, dilation_h)
    width = output_size(x.shape[3], weight.shape[3], stride_w, pad_w, dilation_w)
    return image_like(x, weight.shape[0], height, width)


# A depthwise weight is (C, 1, kh, kw), so its output has weight.shape[0] channels too.
depthwise_conv_act = conv_act


def depthwise_conv_act_pool(x: Tensor, weight: Tensor, *rest) -> tuple[Tensor, Tensor]:
    return depthwise_conv_act(x, weight, *rest), accumulated(x, x.shape[0], x.shape[1])


def pointwise_conv_act(
    x: Tensor, weight: Tensor, bias: Tensor | None, gate: Tensor | None, residual: Tensor | None, act: int
) -> Tensor:
    return image_like(x, weight.shape[0], x.shape[2], x.shape[3])


def se_gate(
    pooled: Tensor,
    reduce_weight: Tensor,
    reduce_bias: Tensor | None,
    expand_weight: Tensor,
    expand_bias: Tensor | None,
    act: int,
    gate: int,
) -> Tensor:
    return accumulated(pooled, pooled.shape[0], expand_weight.shape[0])


def squeeze_excite(
    x: Tensor,
    reduce_weight: Tensor,
    reduce_bias: Tensor | None,
    expand_weight: Tensor,
    expand_bias: Tensor | None,
    pooled: Tensor | None,
    act: int,
    gate: int,
) -> Tensor:
    return image_like(x, x.shape[1], x.shape[2], x.shape[3])


def mbconv(x: Tensor, *rest: Tensor | int | bool | None) -> Tensor:
    (depthwise_weight, _, *geometry), project_weight = rest[2:10], rest[14]
    y = conv_act(x, depthwise_weight, None, *geometry, 0)
    return image_like(x, project_weight.shape[0], *y.shape[2:])


def fused_mbconv(x: Tensor, *rest: Tensor | int | bool | None) -> Tensor:
    (expand_weight, _, *geometry), project_weight = rest[:8], rest[8]
    y = conv_act(x, expand_weight, None, *geometry, 0)
    return image_like(x, project_weight.shape[0], *y.shape[2:])
