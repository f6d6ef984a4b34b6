"""Squeeze and excitation: the gate's two layers in one small kernel, and the whole op around it.

se_gate: bytes are pooled and the gate once, the weights once a program (from L2). Arithmetic: 2 * C * R multiply-adds
an image, in float32. A program computes the gates of a few images; its hidden values take the way through a workspace,
so that any reduction width fits.
squeeze_excite: bytes are x once for the mean (unless it is given) and once more, from L2 where it fits, to be scaled.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from .. import fake
from ..reference import as_matrix
from .activation import activate, gate_value
from .gemm import strides
from .launch import dense, launch, power_of_2, rows, units
from .pool import spatial_mean

# Up to as many images each has a program of its own; beyond, programs share what they read of the weights.
_IMAGES_ALONE, _IMAGES_TOGETHER = 128, 4
# Values of a tile: images x outputs of a layer x inputs of a layer.
_TILE, _BLOCK_OUT = 2048, 16
_BLOCK_PIXELS, _BLOCK_C = 32, 64


@triton.jit
def _layer(
    values,
    weight,
    bias,
    results,
    image,
    batch,
    ins,
    outs,
    stride_in,
    stride_out,
    ACT: tl.constexpr,
    GATE: tl.constexpr,
    IMAGES: tl.constexpr,
    BLOCK_OUT: tl.constexpr,
    BLOCK_IN: tl.constexpr,
):
    """results = act(weight values + bias) for some images, or gate(...) where ACT is None."""
    image_mask = image < batch
    value_rows = values + image[:, None, None] * ins
    for first_out in range(0, outs, BLOCK_OUT):
        o = first_out + tl.arange(0, BLOCK_OUT)
        o_mask = o < outs
        total = tl.zeros([IMAGES, BLOCK_OUT, BLOCK_IN], tl.float32)
        for first_in in range(0, ins, BLOCK_IN):
            i = first_in + tl.arange(0, BLOCK_IN)
            i_mask = i < ins
            v_mask = image_mask[:, None, None] & i_mask[None, None, :]
            v = tl.load(value_rows + i[None, None, :], v_mask, 0.0).to(tl.float32)
            w_mask = o_mask[:, None] & i_mask[None, :]
            w = tl.load(weight + (o[:, None] * stride_out + i[None, :] * stride_in), w_mask, 0.0).to(tl.float32)
            total += v * w[None, :, :]
        result = tl.sum(total, 2)
        if bias is not None:
            result += tl.load(bias + o, o_mask, 0.0).to(tl.float32)[None, :]
        result = gate_value(result, GATE) if ACT is None else activate(result, ACT)
        tl.store(results + (image[:, None] * outs + o[None, :]), result, image_mask[:, None] & o_mask[None, :])


@triton.jit
def _se_gate(
    pooled,
    reduce_weight,
    reduce_bias,
    expand_weight,
    expand_bias,
    hidden,
    gate,
    batch,
    channels,
    reduced,
    reduce_in,
    reduce_out,
    expand_in,
    expand_out,
    REDUCE_IN: tl.constexpr,
    REDUCE_OUT: tl.constexpr,
    EXPAND_IN: tl.constexpr,
    EXPAND_OUT: tl.constexpr,
    ACT: tl.constexpr,
    GATE: tl.constexpr,
    IMAGES: tl.constexpr,
    BLOCK_OUT: tl.constexpr,
    BLOCK_IN: tl.constexpr,
):
    image = tl.program_id(0).to(tl.int64) * IMAGES + tl.arange(0, IMAGES)
    _layer(
        pooled,
        reduce_weight,
        reduce_bias,
        hidden,
        image,
        batch,
        channels,
        reduced,
        reduce_in * REDUCE_IN,
        reduce_out * REDUCE_OUT,
        ACT,
        GATE,
        IMAGES,
        BLOCK_OUT,
        BLOCK_IN,
    )
    # The second layer's threads read what others of this program have written.
    tl.debug_barrier()
    _layer(
        hidden,
        expand_weight,
        expand_bias,
        gate,
        image,
        batch,
        reduced,
        channels,
        expand_in * EXPAND_IN,
        expand_out * EXPAND_OUT,
        None,
        GATE,
        IMAGES,
        BLOCK_OUT,
        BLOCK_IN,
    )


@triton.jit
def _scale(
    x,
    gate,
    y,
    pixels,
    channel_units,
    tiles_p,
    tiles_c,
    UNIT: tl.constexpr,
    BLOCK_PIXELS: tl.constexpr,
    BLOCK_C: tl.constexpr,
):
    channels = channel_units * UNIT
    program = tl.program_id(0)
    c = program % tiles_c * BLOCK_C + tl.arange(0, BLOCK_C)
    first = program // tiles_c % tiles_p * BLOCK_PIXELS
    n = (program // (tiles_c * tiles_p)).to(tl.int64)
    pixel = tl.arange(0, BLOCK_PIXELS)
    mask = (first + pixel < pixels)[:, None] & (c < channels)[None, :]
    place = (n * pixels + first) * channels + (pixel[:, None] * channels + c[None, :])
    scale = tl.load(gate + n * channels + c, c < channels, 0.0)
    value = tl.load(x + place, mask, 0.0).to(tl.float32) * scale[None, :]
    tl.store(y + place, value.to(y.dtype.element_ty), mask)


def se_gate(
    pooled: Tensor,
    reduce_weight: Tensor,
    reduce_bias: Tensor | None,
    expand_weight: Tensor,
    expand_bias: Tensor | None,
    act: int,
    gate: int,
) -> Tensor:
    result = fake.se_gate(pooled, reduce_weight, reduce_bias, expand_weight, expand_bias, act, gate)
    batch, channels = pooled.shape
    reduced = reduce_weight.shape[0]
    reduce, expand = as_matrix(reduce_weight), as_matrix(expand_weight)
    reduce_in, reduce_out, reduce_in_unit, reduce_out_unit = strides(reduce.stride(1), reduce.stride(0))
    expand_in, expand_out, expand_in_unit, expand_out_unit = strides(expand.stride(1), expand.stride(0))
    images = 1 if batch <= _IMAGES_ALONE else _IMAGES_TOGETHER
    block_in = min(_TILE // (images * _BLOCK_OUT), power_of_2(max(channels, reduced)))
    launch(
        _se_gate,
        (-(-batch // images),),
        dense(pooled),
        reduce,
        dense(reduce_bias),
        expand,
        dense(expand_bias),
        torch.empty((batch, reduced), dtype=torch.float32, device=pooled.device),
        result,
        batch,
        channels,
        reduced,
        reduce_in,
        reduce_out,
        expand_in,
        expand_out,
        REDUCE_IN=reduce_in_unit,
        REDUCE_OUT=reduce_out_unit,
        EXPAND_IN=expand_in_unit,
        EXPAND_OUT=expand_out_unit,
        ACT=act,
        GATE=gate,
        IMAGES=images,
        BLOCK_OUT=_BLOCK_OUT,
        BLOCK_IN=block_in,
        num_warps=8,
    )
    return result


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
    y = fake.squeeze_excite(x, reduce_weight, reduce_bias, expand_weight, expand_bias, pooled, act, gate)
    x_rows = rows(x)
    mean = spatial_mean(x_rows.permute(0, 3, 1, 2)) if pooled is None else pooled
    scale = se_gate(mean, reduce_weight, reduce_bias, expand_weight, expand_bias, act, gate)
    n, channels, height, width = x.shape
    tiles_p, tiles_c = -(-height * width // _BLOCK_PIXELS), -(-channels // _BLOCK_C)
    count, unit = units(channels)
    launch(
        _scale,
        (n * tiles_p * tiles_c,),
        x_rows,
        scale,
        y,
        height * width,
        count,
        tiles_p,
        tiles_c,
        UNIT=unit,
        BLOCK_PIXELS=_BLOCK_PIXELS,
        BLOCK_C=_BLOCK_C,
    )
    return y
