"""Fused inverted residual in one kernel: dense convolution, projection, bias, activations and residual.

Bytes: x once from memory (its windows overlap in L1 and L2, and a program reads them once a block of the hidden
channels), once more for the residual (from L2), y once, both weights from L2. The expanded tensor is never written: a
program makes BLOCK_M pixels of it, BLOCK_N channels at a time, and multiplies them by their part of the projection
while they are in registers. Arithmetic: kernel_h * kernel_w * in_channels + out_channels multiply-adds a hidden value
on tensor cores, in float32 units for float32: what the two kernels would do, nothing is computed twice. The hidden
values are rounded to the images' dtype before the projection, as the two kernels' would be.
"""

from __future__ import annotations

from dataclasses import dataclass

import triton
import triton.language as tl
from torch import Tensor

from .. import fake
from ..shape import pad_before_after
from .conv import conv_act, convolve, taps_matrix
from .gemm import finish, strides
from .launch import config, dense, dtype_bucket, launch, power_of_2, rows, units
from .pointwise import pointwise_conv_act

# Fewer programs leave a large GPU's multiprocessors idle, where the two kernels would split their channels too.
FILLS = 128
# The least that tl.dot takes along each side; what Hopper's tensor cores multiply at once.
_LEAST, _LEAST_M = 16, 64
# Reading a block of patches from L1 and L2 costs about what so many columns of the product cost.
_READING = 48
# Of both products, 64 a thread, beside the addresses and masks of what is loaded.
_VALUES_OF_4_WARPS = 8192


# A count of one block would be compiled in, and the loop over the taps unrolled beyond what registers hold.
@triton.jit(do_not_specialize=["blocks"])
def _fused_mbconv(
    x,
    weight,
    bias,
    project,
    project_bias,
    y,
    pixels,
    height,
    width,
    out_height,
    out_width,
    pad_top,
    pad_left,
    hidden_channels,
    in_units,
    out_units,
    k_units,
    n_units,
    project_k_units,
    project_n_units,
    blocks,
    IN_UNIT: tl.constexpr,
    OUT_UNIT: tl.constexpr,
    K_UNIT: tl.constexpr,
    N_UNIT: tl.constexpr,
    PROJECT_K_UNIT: tl.constexpr,
    PROJECT_N_UNIT: tl.constexpr,
    KERNEL_H: tl.constexpr,
    KERNEL_W: tl.constexpr,
    STRIDE_H: tl.constexpr,
    STRIDE_W: tl.constexpr,
    DILATION_H: tl.constexpr,
    DILATION_W: tl.constexpr,
    ACT: tl.constexpr,
    PROJECT_ACT: tl.constexpr,
    RESIDUAL: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_K: tl.constexpr,
    BLOCK_O: tl.constexpr,
):
    out_channels = out_units * OUT_UNIT
    first = tl.program_id(0).to(tl.int64) * BLOCK_M
    o = tl.arange(0, BLOCK_O)
    o_mask = o < out_channels
    result = tl.zeros([BLOCK_M, BLOCK_O], tl.float32)
    for first_n in range(0, hidden_channels, BLOCK_N):
        n = first_n + tl.arange(0, BLOCK_N)
        n_mask = n < hidden_channels
        total = convolve(
            x,
            weight,
            pixels,
            first,
            height,
            width,
            out_height,
            out_width,
            pad_top,
            pad_left,
            in_units * IN_UNIT,
            k_units * K_UNIT,
            n_units * N_UNIT,
            n,
            n_mask,
            blocks,
            KERNEL_H,
            KERNEL_W,
            STRIDE_H,
            STRIDE_W,
            DILATION_H,
            DILATION_W,
            False,  # SPANS_TAPS: no network has such a block with fewer than 16 input channels
            BLOCK_M,
            BLOCK_N,
            BLOCK_K,
        )
        # Infinity times the zero weights of channels that are not there is NaN.
        hidden = tl.where(n_mask[None, :], finish(total, bias, n, n_mask, ACT), 0.0)
        place = n[:, None] * (project_k_units * PROJECT_K_UNIT) + o[None, :] * (project_n_units * PROJECT_N_UNIT)
        matrix = tl.load(project + place, n_mask[:, None] & o_mask[None, :], 0.0)
        result = tl.dot(hidden.to(matrix.dtype), matrix, result, input_precision="ieee")
    value = finish(result, project_bias, o, o_mask, PROJECT_ACT)
    m = tl.arange(0, BLOCK_M)
    mask = (first + m < pixels)[:, None] & o_mask[None, :]
    place = first * out_channels + (m[:, None] * out_channels + o[None, :])
    if RESIDUAL:
        value += tl.load(x + place, mask, 0.0).to(tl.float32)
    tl.store(y + place, value.to(y.dtype.element_ty), mask)


@dataclass(frozen=True)
class Blocks:
    """The blocks of the one kernel: output pixels, hidden channels, inner side of the convolution, output channels."""

    block_m: int
    block_n: int
    block_k: int
    block_o: int
    num_warps: int
    num_stages: int


def one_kernel(chosen: dict[str, int], pixels: int, in_channels: int, hidden: int, out_channels: int) -> Blocks | None:
    """How the one kernel runs a shape, or None where the two kernels should: by the configuration and the shape alone.

    The arithmetic is the same either way and the bytes are fewer in one kernel. It cannot run where a program's tile of
    the result, which has all output channels, does not fit beside the hidden one: where out_channels > chosen["OUT"].
    It cannot pay where there are so few pixels that it leaves multiprocessors idle, as in the last stages of one image.

    Args:
        chosen: a row of ``configs/fused_mbconv.json``.
        pixels: of the output, in the whole batch.
        in_channels: of the input.
        hidden: channels after the dense convolution.
        out_channels: channels after the projection.
    """
    block_o = max(_LEAST, power_of_2(out_channels))
    if block_o > chosen["OUT"]:
        return None
    sizes = [size for size in (16, 32, 64, 128) if size <= chosen["BLOCK_N"]]
    block_n = min(sizes, key=lambda size: -(-hidden // size) * (size + _READING))
    block_k = max(_LEAST, min(chosen["BLOCK_K"], power_of_2(in_channels)))
    block_m = max(_LEAST, min(chosen["BLOCK_M"], power_of_2(pixels)))
    while block_m > _LEAST_M and -(-pixels // block_m) < 2 * FILLS:
        block_m //= 2
    if -(-pixels // block_m) < FILLS:
        return None
    num_warps = 4 if block_m * (block_n + block_o) <= _VALUES_OF_4_WARPS else chosen["num_warps"]
    return Blocks(block_m, block_n, block_k, block_o, num_warps, chosen["num_stages"])


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
    y = fake.fused_mbconv(x, expand_weight, expand_bias, *geometry, project_weight)
    batch, in_channels, height, width = x.shape
    hidden, _, kernel_h, kernel_w = expand_weight.shape
    out_channels, out_height, out_width = y.shape[1:]
    pixels = batch * out_height * out_width
    shape = one_kernel(config("fused_mbconv", x, dtype_bucket(x)), pixels, in_channels, hidden, out_channels)
    if shape is None:
        h = conv_act(x, expand_weight, expand_bias, *geometry, act)
        return pointwise_conv_act(h, project_weight, project_bias, None, x if residual else None, project_act)
    matrix, stride_k, stride_n = taps_matrix(expand_weight)
    in_count, in_unit = units(in_channels)
    out_count, out_unit = units(out_channels)
    k_count, n_count, k_unit, n_unit = strides(stride_k, stride_n)
    project_k, project_n, project_k_unit, project_n_unit = strides(project_weight.stride(1), project_weight.stride(0))
    launch(
        _fused_mbconv,
        (-(-pixels // shape.block_m),),
        rows(x),
        matrix,
        dense(expand_bias),
        project_weight,
        dense(project_bias),
        y,
        pixels,
        height,
        width,
        out_height,
        out_width,
        pad_before_after(height, kernel_h, stride_h, pad_h, dilation_h)[0],
        pad_before_after(width, kernel_w, stride_w, pad_w, dilation_w)[0],
        hidden,
        in_count,
        out_count,
        k_count,
        n_count,
        project_k,
        project_n,
        -(-in_channels // shape.block_k),
        IN_UNIT=in_unit,
        OUT_UNIT=out_unit,
        K_UNIT=k_unit,
        N_UNIT=n_unit,
        PROJECT_K_UNIT=project_k_unit,
        PROJECT_N_UNIT=project_n_unit,
        KERNEL_H=kernel_h,
        KERNEL_W=kernel_w,
        STRIDE_H=stride_h,
        STRIDE_W=stride_w,
        DILATION_H=dilation_h,
        DILATION_W=dilation_w,
        ACT=act,
        PROJECT_ACT=project_act,
        RESIDUAL=residual,
        BLOCK_M=shape.block_m,
        BLOCK_N=shape.block_n,
        BLOCK_K=shape.block_k,
        BLOCK_O=shape.block_o,
        num_warps=shape.num_warps,
        num_stages=shape.num_stages,
    )
    return y
