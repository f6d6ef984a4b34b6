"""Dense convolution, bias and activation as one implicit matrix product: no unfolded image is written.

Bytes: x once from memory (its windows overlap in L1 and L2), y once, the weight from L2. Arithmetic: kernel_h *
kernel_w * in_channels multiply-adds an output on tensor cores, in float32 units for float32.

The product's inner side counts taps and input channels. Where there are few channels (stems have 3) a block of it
spans several taps; else a block is inside of one tap and read by whole vectors.
"""

from __future__ import annotations

import triton
import triton.language as tl
from torch import Tensor

from .. import fake
from ..shape import pad_before_after
from .gemm import finish, strides, tiles
from .launch import dense, launch, rows, units

# With fewer input channels than this a block spans taps.
_MANY_CHANNELS = 16


@triton.jit
def convolve(
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
    in_channels,
    k_stride,
    n_stride,
    n,
    n_mask,
    blocks,
    KERNEL_H: tl.constexpr,
    KERNEL_W: tl.constexpr,
    STRIDE_H: tl.constexpr,
    STRIDE_W: tl.constexpr,
    DILATION_H: tl.constexpr,
    DILATION_W: tl.constexpr,
    SPANS_TAPS: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_K: tl.constexpr,
):
    """The convolution without bias: BLOCK_M output pixels of the batch from this one on, the output channels n."""
    m = tl.arange(0, BLOCK_M)
    m_mask = first + m < pixels

    # Every output pixel's window: its first row and column, and where that pixel would lie in memory.
    image = first // (out_height * out_width)
    pixel = (first - image * (out_height * out_width)).to(tl.int32) + m
    row = (pixel // out_width % out_height * STRIDE_H - pad_top)[:, None]
    column = (pixel % out_width * STRIDE_W - pad_left)[:, None]
    later = (pixel // (out_height * out_width))[:, None]
    window = x + (((image + later) * height + row) * width + column) * in_channels
    weight_tile = weight + n[None, :] * n_stride

    total = tl.zeros([BLOCK_M, BLOCK_N], tl.float32)
    for block in range(blocks if SPANS_TAPS else blocks * KERNEL_H * KERNEL_W):
        if SPANS_TAPS:
            k = block * BLOCK_K + tl.arange(0, BLOCK_K)
            tap = (k // in_channels)[None, :]
            c = k % in_channels
            k_mask = k < KERNEL_H * KERNEL_W * in_channels
        else:
            tap = block // blocks
            c = block % blocks * BLOCK_K + tl.arange(0, BLOCK_K)
            k = tap * in_channels + c
            k_mask = c < in_channels
        below = tap // KERNEL_W * DILATION_H
        right = tap % KERNEL_W * DILATION_W
        inside = (row + below >= 0) & (row + below < height) & (column + right >= 0) & (column + right < width)
        place = (below.to(tl.int64) * width + right) * in_channels + c[None, :]
        a = tl.load(window + place, inside & m_mask[:, None] & k_mask[None, :], 0.0)
        b = tl.load(weight_tile + k[:, None] * k_stride, k_mask[:, None] & n_mask[None, :], 0.0)
        total = tl.dot(a, b, total, input_precision="ieee")
    return total


@triton.jit
def _conv(
    x,
    weight,
    bias,
    y,
    pixels,
    height,
    width,
    out_height,
    out_width,
    pad_top,
    pad_left,
    in_units,
    out_units,
    k_units,
    n_units,
    tiles_n,
    blocks,
    IN_UNIT: tl.constexpr,
    OUT_UNIT: tl.constexpr,
    K_UNIT: tl.constexpr,
    N_UNIT: tl.constexpr,
    KERNEL_H: tl.constexpr,
    KERNEL_W: tl.constexpr,
    STRIDE_H: tl.constexpr,
    STRIDE_W: tl.constexpr,
    DILATION_H: tl.constexpr,
    DILATION_W: tl.constexpr,
    ACT: tl.constexpr,
    SPANS_TAPS: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_K: tl.constexpr,
):
    out_channels = out_units * OUT_UNIT
    first = (tl.program_id(0) // tiles_n).to(tl.int64) * BLOCK_M
    n = tl.program_id(0) % tiles_n * BLOCK_N + tl.arange(0, BLOCK_N)
    n_mask = n < out_channels
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
        SPANS_TAPS,
        BLOCK_M,
        BLOCK_N,
        BLOCK_K,
    )
    value = finish(total, bias, n, n_mask, ACT)
    m = tl.arange(0, BLOCK_M)
    place = first * out_channels + (m[:, None] * out_channels + n[None, :])
    tl.store(y + place, value.to(y.dtype.element_ty), (first + m < pixels)[:, None] & n_mask[None, :])


def taps_matrix(weight: Tensor) -> tuple[Tensor, int, int]:
    """The weight with taps and input channels as one dense side, and its strides along that and the output channels."""
    out_channels, in_channels, kernel_h, kernel_w = weight.shape
    by_output = weight.permute(0, 2, 3, 1)
    if by_output.is_contiguous():
        return by_output, 1, kernel_h * kernel_w * in_channels
    return weight.permute(2, 3, 1, 0).contiguous(), out_channels, 1


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
    y = fake.conv_act(x, weight, bias, stride_h, stride_w, pad_h, pad_w, dilation_h, dilation_w, act)
    batch, in_channels, height, width = x.shape
    out_channels, _, kernel_h, kernel_w = weight.shape
    out_height, out_width = y.shape[2:]
    pad_top = pad_before_after(height, kernel_h, stride_h, pad_h, dilation_h)[0]
    pad_left = pad_before_after(width, kernel_w, stride_w, pad_w, dilation_w)[0]
    spans_taps = in_channels < _MANY_CHANNELS
    inner = kernel_h * kernel_w * in_channels
    shape = tiles(x, batch * out_height * out_width, out_channels, inner if spans_taps else in_channels)
    matrix, stride_k, stride_n = taps_matrix(weight)
    in_count, in_unit = units(in_channels)
    out_count, out_unit = units(out_channels)
    k_count, n_count, k_unit, n_unit = strides(stride_k, stride_n)
    launch(
        _conv,
        (shape.tiles_m * shape.tiles_n,),
        rows(x),
        matrix,
        dense(bias),
        y,
        batch * out_height * out_width,
        height,
        width,
        out_height,
        out_width,
        pad_top,
        pad_left,
        in_count,
        out_count,
        k_count,
        n_count,
        shape.tiles_n,
        -(-(inner if spans_taps else in_channels) // shape.block_k),
        IN_UNIT=in_unit,
        OUT_UNIT=out_unit,
        K_UNIT=k_unit,
        N_UNIT=n_unit,
        KERNEL_H=kernel_h,
        KERNEL_W=kernel_w,
        STRIDE_H=stride_h,
        STRIDE_W=stride_w,
        DILATION_H=dilation_h,
        DILATION_W=dilation_w,
        ACT=act,
        SPANS_TAPS=spans_taps,
        BLOCK_M=shape.block_m,
        BLOCK_N=shape.block_n,
        BLOCK_K=shape.block_k,
        num_warps=shape.num_warps,
        num_stages=shape.num_stages,
    )
    return y
