"""The least arithmetic and the least traffic of a call, for rooflines: inputs read once, outputs written once."""

from __future__ import annotations

from math import prod

from torch import Tensor

from .shape import output_size
from .spec import Cost


def size_in_bytes(*tensors: Tensor | None) -> int:
    return sum(t.numel() * t.element_size() for t in tensors if t is not None)


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
) -> Cost:
    height = output_size(x.shape[2], weight.shape[2], stride_h, pad_h, dilation_h)
    width = output_size(x.shape[3], weight.shape[3], stride_w, pad_w, dilation_w)
    pixels = x.shape[0] * height * width
    outputs = pixels * weight.shape[0]
    return Cost(macs=pixels * weight.numel(), bytes=size_in_bytes(x, weight, bias) + outputs * x.element_size())


# weight.numel() is channels * taps for a depthwise weight, so the same formula holds.
depthwise_conv_act = conv_act


def depthwise_conv_act_pool(x: Tensor, weight: Tensor, *rest) -> Cost:
    cost = depthwise_conv_act(x, weight, *rest)
    return Cost(cost.macs, cost.bytes + 4 * x.shape[0] * x.shape[1])


def pointwise_conv_act(
    x: Tensor, weight: Tensor, bias: Tensor | None, gate: Tensor | None, residual: Tensor | None, act: int
) -> Cost:
    pixels = x.shape[0] * x.shape[2] * x.shape[3]
    outputs = pixels * weight.shape[0]
    moved = size_in_bytes(x, weight, bias, gate, residual) + outputs * x.element_size()
    return Cost(macs=pixels * weight.numel(), bytes=moved)


def se_gate(
    pooled: Tensor,
    reduce_weight: Tensor,
    reduce_bias: Tensor | None,
    expand_weight: Tensor,
    expand_bias: Tensor | None,
    act: int,
    gate: int,
) -> Cost:
    moved = 2 * size_in_bytes(pooled) + size_in_bytes(reduce_weight, reduce_bias, expand_weight, expand_bias)
    return Cost(macs=pooled.shape[0] * (reduce_weight.numel() + expand_weight.numel()), bytes=moved)


def squeeze_excite(
    x: Tensor,
    reduce_weight: Tensor,
    reduce_bias: Tensor | None,
    expand_weight: Tensor,
    expand_bias: Tensor | None,
    pooled: Tensor | None,
    act: int,
    gate: int,
) -> Cost:
    weights = size_in_bytes(reduce_weight, reduce_bias, expand_weight, expand_bias)
    macs = x.shape[0] * (reduce_weight.numel() + expand_weight.numel()) + prod(x.shape)
    # Without a given mean x must be read twice: the gate depends on all of it.
    reads = 2 if pooled is None else 1
    return Cost(macs=macs, bytes=(reads + 1) * size_in_bytes(x) + weights + size_in_bytes(pooled))


def mbconv(x: Tensor, *rest: Tensor | int | bool | None) -> Cost:
    """With nothing but x, the weights and y in memory; with squeeze-excite also what waits for the gate, written once
    and read once."""
    (expand_weight, _, depthwise_weight, _, *geometry), project_weight = rest[:10], rest[14]
    weights = [t for t in rest if isinstance(t, Tensor)]
    each = zip(x.shape[2:], depthwise_weight.shape[2:], geometry[:2], geometry[2:4], geometry[4:], strict=True)
    height, width = (output_size(*of_axis) for of_axis in each)
    pixels, inputs = x.shape[0] * height * width, x.shape[0] * x.shape[2] * x.shape[3]
    macs = pixels * (depthwise_weight.numel() + project_weight.numel())
    macs += sum(x.shape[0] * t.numel() for t in (rest[10], rest[12]) if t is not None)
    if expand_weight is not None:
        macs += inputs * expand_weight.numel()
    outputs = pixels * project_weight.shape[0] * x.element_size()
    if rest[10] is not None:
        outputs += 2 * pixels * depthwise_weight.shape[0] * x.element_size()
    return Cost(macs=macs, bytes=size_in_bytes(x, *weights) + outputs)


def fused_mbconv(x: Tensor, *rest: Tensor | int | bool | None) -> Cost:
    """With nothing but x, the weights and y in memory."""
    (expand_weight, _, *geometry), project_weight = rest[:8], rest[8]
    each = zip(x.shape[2:], expand_weight.shape[2:], geometry[:2], geometry[2:4], geometry[4:], strict=True)
    height, width = (output_size(*of_axis) for of_axis in each)
    pixels = x.shape[0] * height * width
    weights = [t for t in rest if isinstance(t, Tensor)]
    outputs = pixels * project_weight.shape[0] * x.element_size()
    macs = pixels * (expand_weight.numel() + project_weight.numel())
    return Cost(macs=macs, bytes=size_in_bytes(x, *weights) + outputs)
