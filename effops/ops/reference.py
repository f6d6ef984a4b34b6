"""The plain-torch reference of every op: it defines what is correct, on any device and in any floating dtype.

The arguments are those of the op schemas (codes for activations and padding), so that registration, tests and
the backward by decomposition call a reference exactly as they call the kernel.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from .shape import pad_before_after
from .spec import ACTIVATIONS, GATES

_ACTIVATIONS = {
    "identity": lambda x: x,
    "relu": F.relu,
    "relu6": F.relu6,
    "silu": F.silu,
    "hardswish": F.hardswish,
    "gelu": F.gelu,
}
_GATES = {"sigmoid": torch.sigmoid, "hardsigmoid": F.hardsigmoid}


def activation(x: Tensor, act: int) -> Tensor:
    """Apply the activation with this code."""
    return _ACTIVATIONS[ACTIVATIONS[act]](x)


def accumulation_dtype(x: Tensor) -> torch.dtype:
    return torch.float64 if x.dtype == torch.float64 else torch.float32


def channels_last(x: Tensor) -> Tensor:
    return x.contiguous(memory_format=torch.channels_last)


def _cast(x: Tensor | None, dtype: torch.dtype) -> Tensor | None:
    return None if x is None else x.to(dtype)


def as_matrix(weight: Tensor) -> Tensor:
    return weight.flatten(1)


def conv(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: tuple[int, int],
    padding: tuple[int, int],
    dilation: tuple[int, int],
    groups: int,
) -> Tensor:
    (top, bottom), (left, right) = (
        pad_before_after(x.shape[2 + i], weight.shape[2 + i], stride[i], padding[i], dilation[i]) for i in (0, 1)
    )
    bias = _cast(bias, x.dtype)
    if top == bottom and left == right:
        return F.conv2d(x, weight, bias, stride, (top, left), dilation, groups)
    return F.conv2d(F.pad(x, (left, right, top, bottom)), weight, bias, stride, 0, dilation, groups)


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
    y = conv(x, weight, bias, (stride_h, stride_w), (pad_h, pad_w), (dilation_h, dilation_w), groups=1)
    return channels_last(activation(y, act))


def depthwise_conv_act(
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
    y = conv(x, weight, bias, (stride_h, stride_w), (pad_h, pad_w), (dilation_h, dilation_w), groups=x.shape[1])
    return channels_last(activation(y, act))


def depthwise_conv_act_pool(
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
) -> tuple[Tensor, Tensor]:
    y = depthwise_conv_act(x, weight, bias, stride_h, stride_w, pad_h, pad_w, dilation_h, dilation_w, act)
    return y, y.mean((2, 3), dtype=accumulation_dtype(y))


def pointwise_conv_act(
    x: Tensor, weight: Tensor, bias: Tensor | None, gate: Tensor | None, residual: Tensor | None, act: int
) -> Tensor:
    if gate is not None:
        x = x * gate.to(x.dtype)[:, :, None, None]
    y = activation(F.conv2d(x, as_matrix(weight)[:, :, None, None], _cast(bias, x.dtype)), act)
    return channels_last(y if residual is None else y + residual)


def se_gate(
    pooled: Tensor,
    reduce_weight: Tensor,
    reduce_bias: Tensor | None,
    expand_weight: Tensor,
    expand_bias: Tensor | None,
    act: int,
    gate: int,
) -> Tensor:
    dtype = accumulation_dtype(pooled)
    hidden = F.linear(pooled.to(dtype), as_matrix(reduce_weight).to(dtype), _cast(reduce_bias, dtype))
    hidden = activation(hidden, act)
    logits = F.linear(hidden, as_matrix(expand_weight).to(dtype), _cast(expand_bias, dtype))
    return _GATES[GATES[gate]](logits)


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
    if pooled is None:
        pooled = x.mean((2, 3), dtype=accumulation_dtype(x))
    scale = se_gate(pooled, reduce_weight, reduce_bias, expand_weight, expand_bias, act, gate)
    return channels_last(x * scale.to(x.dtype)[:, :, None, None])


def mbconv(
    x: Tensor,
    expand_weight: Tensor | None,
    expand_bias: Tensor | None,
    depthwise_weight: Tensor,
    depthwise_bias: Tensor | None,
    stride_h: int,
    stride_w: int,
    pad_h: int,
    pad_w: int,
    dilation_h: int,
    dilation_w: int,
    reduce_weight: Tensor | None,
    reduce_bias: Tensor | None,
    excite_weight: Tensor | None,
    excite_bias: Tensor | None,
    project_weight: Tensor,
    project_bias: Tensor | None,
    residual: bool,
    act: int,
    se_act: int,
    gate: int,
    project_act: int,
) -> Tensor:
    geometry = (stride_h, stride_w, pad_h, pad_w, dilation_h, dilation_w)
    y = x if expand_weight is None else pointwise_conv_act(x, expand_weight, expand_bias, None, None, act)
    scale = None
    if reduce_weight is None:
        y = depthwise_conv_act(y, depthwise_weight, depthwise_bias, *geometry, act)
    else:
        y, pooled = depthwise_conv_act_pool(y, depthwise_weight, depthwise_bias, *geometry, act)
        scale = se_gate(pooled, reduce_weight, reduce_bias, excite_weight, excite_bias, se_act, gate)
    return pointwise_conv_act(y, project_weight, project_bias, scale, x if residual else None, project_act)


def fused_mbconv(
    x: Tensor,
    expand_weight: Tensor,
    expand_bias: Tensor | None,
    stride_h: int,
    stride_w: int,
    pad_h: int,
    pad_w: int,
    dilation_h: int,
    dilation_w: int,
    project_weight: Tensor,
    project_bias: Tensor | None,
    residual: bool,
    act: int,
    project_act: int,
) -> Tensor:
    geometry = (stride_h, stride_w, pad_h, pad_w, dilation_h, dilation_w)
    y = conv_act(x, expand_weight, expand_bias, *geometry, act)
    return pointwise_conv_act(y, project_weight, project_bias, None, x if residual else None, project_act)
