"""Depthwise convolution, bias and activation in one pass; with a mean, its sums in the same pass.

Bytes: x once (what tiles share comes from L1 and L2), y once, the weight once a program. Arithmetic: a multiply-add
a tap and output, in float32, far below what the bytes take for kernels up to 5x5.

A program walks down a strip of BLOCK_W columns and BLOCK_C channels, ROWS rows of outputs a step. It holds its taps in
registers, and a row of inputs is loaded kernel_w times for all the rows of outputs that it adds to.
"""

from __future__ import annotations

from dataclasses import dataclass

import triton
import triton.language as tl
from torch import Tensor

from .. import fake
from ..shape import pad_before_after
from .activation import activate
from .launch import config, dense, dtype_bucket, launch, power_of_2, rows, units
from .pool import mean_of_sums, partial_sums
from .view import load_view

# Steps of a program are given up for as many programs as this, so that large GPUs are filled.
_PROGRAMS = 4096
# The taps of larger kernels do not fit into registers: they are loaded where they are used.
_HELD_TAPS = 25


@triton.jit
def held_taps(weight, c, channels, mask, COUNT: tl.constexpr):
    """The weights of the first COUNT taps for a block of channels, as a tuple."""
    taps = ()
    for tap in tl.static_range(COUNT):
        taps = taps + (tl.load(weight + tap * channels + c, mask, 0.0).to(tl.float32)[None, :],)
    return taps


@triton.jit
def column_masks(
    first, width, mask, KERNEL_W: tl.constexpr, STRIDE: tl.constexpr, DILATION: tl.constexpr, BLOCK_W: tl.constexpr
):
    """For every tap of a row, which of the inputs that it reads are inside of the image."""
    masks = ()
    for kx in tl.static_range(KERNEL_W):
        column = first + kx * DILATION + tl.arange(0, BLOCK_W) * STRIDE
        masks = masks + (((column >= 0) & (column < width))[:, None] & mask[None, :],)
    return masks


@triton.jit
def accumulate(
    sums,
    x,
    affine,
    masks,
    taps,
    weight,
    row,
    height,
    row_stride,
    channels,
    c,
    c_mask,
    VIEW_ACT: tl.constexpr,
    KERNEL_H: tl.constexpr,
    KERNEL_W: tl.constexpr,
    STRIDE_H: tl.constexpr,
    STRIDE_W: tl.constexpr,
    DILATION_H: tl.constexpr,
    DILATION_W: tl.constexpr,
    ROWS: tl.constexpr,
    BLOCK_W: tl.constexpr,
):
    """Add what the taps make of the input rows from this one on to the sums of ROWS output rows.

    What is read is the view of x by (mean, scale, shift), or None, and an activation; zero around the image.

    Indices of tuples are expressions here: a variable would be a tensor in the interpreter.
    """
    place = (tl.arange(0, BLOCK_W) * STRIDE_W)[:, None] * channels + c[None, :]
    for below in tl.static_range((ROWS - 1) * STRIDE_H + (KERNEL_H - 1) * DILATION_H + 1):
        inside = (row + below >= 0) & (row + below < height)
        inputs = ()
        for kx in tl.static_range(KERNEL_W):
            at = x + (below * row_stride + kx * DILATION_W * channels)
            if affine is None and VIEW_ACT == 0:
                value = tl.load(at + place, masks[kx] & inside, 0.0).to(tl.float32)
            else:
                value = load_view(at, place, masks[kx] & inside, affine, VIEW_ACT)
                value = tl.where(masks[kx] & inside, value, 0.0)
            inputs = inputs + (value,)
        updated = ()
        for r in tl.static_range(ROWS):
            total = sums[r]
            # Which row of taps lies between this input row and output row r, if any.
            if below >= r * STRIDE_H and (below - r * STRIDE_H) % DILATION_H == 0:
                if below - r * STRIDE_H < KERNEL_H * DILATION_H:
                    for kx in tl.static_range(KERNEL_W):
                        if weight is None:
                            w = taps[(below - r * STRIDE_H) // DILATION_H * KERNEL_W + kx]
                        else:
                            tap = (below - r * STRIDE_H) // DILATION_H * KERNEL_W + kx
                            w = tl.load(weight + tap * channels + c, c_mask, 0.0).to(tl.float32)[None, :]
                        total += inputs[kx] * w
            updated = updated + (total,)
        sums = updated
    return sums


@triton.jit
def _depthwise(
    x,
    weight,
    bias,
    y,
    partials,
    channel_units,
    height,
    width,
    out_height,
    out_width,
    pad_top,
    pad_left,
    strips,
    tiles_w,
    tiles_c,
    UNIT: tl.constexpr,
    KERNEL_H: tl.constexpr,
    KERNEL_W: tl.constexpr,
    STRIDE_H: tl.constexpr,
    STRIDE_W: tl.constexpr,
    DILATION_H: tl.constexpr,
    DILATION_W: tl.constexpr,
    ACT: tl.constexpr,
    HELD: tl.constexpr,
    ROWS: tl.constexpr,
    STEPS: tl.constexpr,
    BLOCK_W: tl.constexpr,
    BLOCK_C: tl.constexpr,
):
    channels = channel_units * UNIT
    program = tl.program_id(0)
    tile_c = program % tiles_c
    tile_w = program // tiles_c % tiles_w
    strip = program // (tiles_c * tiles_w) % strips
    n = (program // (tiles_c * tiles_w * strips)).to(tl.int64)

    c = tile_c * BLOCK_C + tl.arange(0, BLOCK_C)
    c_mask = c < channels
    out_column = tile_w * BLOCK_W
    out_columns = out_column + tl.arange(0, BLOCK_W)
    out_mask = (out_columns < out_width)[:, None] & c_mask[None, :]
    out_place = tl.arange(0, BLOCK_W)[:, None] * channels + c[None, :]
    column = out_column * STRIDE_W - pad_left

    shift = tl.zeros([BLOCK_C], tl.float32)
    if bias is not None:
        shift += tl.load(bias + c, c_mask, 0.0).to(tl.float32)
    taps = ()
    if HELD:
        taps = held_taps(weight, c, channels, c_mask, KERNEL_H * KERNEL_W)
    masks = column_masks(column, width, c_mask, KERNEL_W, STRIDE_W, DILATION_W, BLOCK_W)
    pooled = tl.zeros([BLOCK_W, BLOCK_C], tl.float32)

    for step in range(STEPS):
        out_row = (strip * STEPS + step) * ROWS
        row = out_row * STRIDE_H - pad_top
        # Offsets that may pass 2^31 are scalars of 64 bits; those inside of a tile are 32 bits wide.
        row_stride = width.to(tl.int64) * channels
        sums = ()
        for _ in tl.static_range(ROWS):
            sums = sums + (tl.zeros([BLOCK_W, BLOCK_C], tl.float32) + shift[None, :],)
        sums = accumulate(
            sums,
            x + (n * height + row) * row_stride + column.to(tl.int64) * channels,
            None,
            masks,
            taps,
            None if HELD else weight,
            row,
            height,
            row_stride,
            channels,
            c,
            c_mask,
            0,
            KERNEL_H,
            KERNEL_W,
            STRIDE_H,
            STRIDE_W,
            DILATION_H,
            DILATION_W,
            ROWS,
            BLOCK_W,
        )
        for r in tl.static_range(ROWS):
            value = activate(sums[r], ACT)
            stored = out_mask & (out_row + r < out_height)
            out = y + ((n * out_height + out_row + r) * out_width + out_column) * channels
            tl.store(out + out_place, value.to(y.dtype.element_ty), stored)
            if partials is not None:
                pooled += tl.where(stored, value, 0.0)
    if partials is not None:
        part = ((n * strips + strip) * tiles_w + tile_w) * channels
        tl.store(partials + part + c, tl.sum(pooled, 0), c_mask)


def _channel_block(channels: int, largest: int) -> int:
    """The largest power of two up to `largest` that leaves at most an eighth of its lanes idle, 16 at the least."""
    block = largest
    while block > 16 and -(-channels // block) * block * 8 > channels * 9:
        block //= 2
    return min(block, power_of_2(channels))


@dataclass(frozen=True)
class Tiling:
    """How a convolution's outputs are split: strips of STEPS times ROWS rows, BLOCK_W columns and BLOCK_C channels."""

    strips: int
    tiles_w: int
    tiles_c: int
    blocks: dict[str, int]

    @staticmethod
    def of(x: Tensor, weight: Tensor, y: Tensor, table: str = "depthwise", programs: int = _PROGRAMS) -> Tiling:
        n, channels, out_height, out_width = y.shape
        kernel_h, kernel_w = weight.shape[2:]
        square = f"k{kernel_h}" if kernel_h == kernel_w else "any"
        chosen = config(table, x, f"{dtype_bucket(x)}-{square}")
        block_c = _channel_block(channels, chosen["CHANNELS"])
        block_w = min(power_of_2(out_width), 32 * chosen["WARPS"] * chosen["VECTOR"] // block_c)
        num_warps = max(1, block_w * block_c // (32 * chosen["VECTOR"]))
        rows_a_step = max(1, min(chosen["ROWS"], out_height))
        tiles_c, tiles_w = -(-channels // block_c), -(-out_width // block_w)
        tiles_h = -(-out_height // rows_a_step)
        steps = min(chosen["STEPS"], power_of_2(tiles_h))
        while steps > 1 and n * tiles_c * tiles_w * -(-tiles_h // steps) < programs:
            steps //= 2
        strips = -(-tiles_h // steps)
        blocks = {"ROWS": rows_a_step, "STEPS": steps, "BLOCK_W": block_w, "BLOCK_C": block_c, "num_warps": num_warps}
        blocks["HELD"] = kernel_h * kernel_w <= _HELD_TAPS
        return Tiling(strips, tiles_w, tiles_c, blocks)


def _run(
    x: Tensor, weight: Tensor, bias: Tensor | None, geometry: tuple[int, ...], act: int, pool: bool
) -> tuple[Tensor, Tensor | None]:
    stride, padding, dilation = geometry[:2], geometry[2:4], geometry[4:]
    y = fake.depthwise_conv_act(x, weight, bias, *geometry, act)
    n, channels, height, width = x.shape
    kernel_h, kernel_w = weight.shape[2:]
    out_height, out_width = y.shape[2:]
    pads = [
        pad_before_after(x.shape[2 + i], weight.shape[2 + i], stride[i], padding[i], dilation[i])[0] for i in (0, 1)
    ]

    tiling = Tiling.of(x, weight, y)
    strips, tiles_w, tiles_c = tiling.strips, tiling.tiles_w, tiling.tiles_c
    partials = partial_sums(x, strips * tiles_w) if pool else None
    count, unit = units(channels)
    launch(
        _depthwise,
        (n * strips * tiles_w * tiles_c,),
        rows(x),
        weight.permute(2, 3, 1, 0).contiguous(),
        dense(bias),
        y,
        partials,
        count,
        height,
        width,
        out_height,
        out_width,
        *pads,
        strips,
        tiles_w,
        tiles_c,
        UNIT=unit,
        KERNEL_H=kernel_h,
        KERNEL_W=kernel_w,
        STRIDE_H=stride[0],
        STRIDE_W=stride[1],
        DILATION_H=dilation[0],
        DILATION_W=dilation[1],
        ACT=act,
        **tiling.blocks,
    )
    return y, None if partials is None else mean_of_sums(partials, out_height * out_width)


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
    return _run(x, weight, bias, (stride_h, stride_w, pad_h, pad_w, dilation_h, dilation_w), act, pool=False)[0]


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
    return _run(x, weight, bias, (stride_h, stride_w, pad_h, pad_w, dilation_h, dilation_w), act, pool=True)
