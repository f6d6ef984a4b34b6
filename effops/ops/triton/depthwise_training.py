"""Depthwise convolutions in training: u = dwconv(view(x), W) with its statistics."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from .. import fake_training
from ..shape import pad_before_after
from .depthwise import Tiling, accumulate, column_masks, held_taps
from .launch import dense, launch, rows, units
from .parts import join_many, join_moments, store_moments
from .view import load_affine

# Parts that the statistics come in: fewer than the programs of a convolution without.
_PROGRAMS = 2048


@triton.jit
def stats_kernel(
    x,
    affine,
    weight,
    u,
    found,
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
    # Bytes: x once (what tiles share comes from L1 and L2), u written once, parts * 3 * C * 4 written. A multiply-add a
    # tap and five operations of the statistics an output; the view of an input is computed once for every column of
    # taps and every ROWS rows of outputs.
    channels = channel_units * UNIT
    program = tl.program_id(0)
    tile_w = program // tiles_c % tiles_w
    part = (program // tiles_c).to(tl.int64)
    strip = program // (tiles_c * tiles_w) % strips
    n = (program // (tiles_c * tiles_w * strips)).to(tl.int64)

    c = program % tiles_c * BLOCK_C + tl.arange(0, BLOCK_C)
    c_mask = c < channels
    out_column = tile_w * BLOCK_W
    columns_there = (out_column + tl.arange(0, BLOCK_W) < out_width)[:, None]
    out_place = tl.arange(0, BLOCK_W)[:, None] * channels + c[None, :]
    column = out_column * STRIDE_W - pad_left

    vectors = load_affine(affine, c, c_mask, channels)
    taps = ()
    if HELD:
        taps = held_taps(weight, c, channels, c_mask, KERNEL_H * KERNEL_W)
    masks = column_masks(column, width, c_mask, KERNEL_W, STRIDE_W, DILATION_W, BLOCK_W)
    # Welford's update in every lane of a row: all of them have seen the same number of rows.
    seen = tl.zeros([1, 1], tl.float32)
    mean = tl.zeros([BLOCK_W, BLOCK_C], tl.float32)
    m2 = tl.zeros([BLOCK_W, BLOCK_C], tl.float32)

    for step in range(STEPS):
        out_row = (strip * STEPS + step) * ROWS
        row = out_row * STRIDE_H - pad_top
        row_stride = width.to(tl.int64) * channels
        sums = ()
        for _ in tl.static_range(ROWS):
            sums = sums + (tl.zeros([BLOCK_W, BLOCK_C], tl.float32),)
        sums = accumulate(
            sums,
            x + (n * height + row) * row_stride + column.to(tl.int64) * channels,
            vectors,
            masks,
            taps,
            None if HELD else weight,
            row,
            height,
            row_stride,
            channels,
            c,
            c_mask,
            ACT,
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
            value = sums[r].to(u.dtype.element_ty)
            there = columns_there & (out_row + r < out_height)
            out = u + ((n * out_height + out_row + r) * out_width + out_column) * channels
            tl.store(out + out_place, value, there & c_mask[None, :])
            # Statistics of what is stored.
            seen += tl.where(out_row + r < out_height, 1.0, 0.0)
            away = tl.where(there, value.to(tl.float32) - mean, 0.0)
            moved = away * (1.0 / tl.maximum(seen, 1.0))
            mean += moved
            m2 += away * (away - moved)
    count, mean, m2 = join_many(tl.where(columns_there, seen, 0.0), mean, m2)
    store_moments(found, part, c, channels, count, mean, m2)


def depthwise_conv_stats(
    x: Tensor,
    affine: Tensor | None,
    weight: Tensor,
    stride_h: int,
    stride_w: int,
    pad_h: int,
    pad_w: int,
    dilation_h: int,
    dilation_w: int,
    act: int,
) -> tuple[Tensor, Tensor]:
    """See reference_training."""
    geometry = (stride_h, stride_w, pad_h, pad_w, dilation_h, dilation_w)
    u = fake_training.depthwise_conv_stats(x, affine, weight, *geometry, act)[0]
    (batch, channels, *size), kernel = x.shape, weight.shape[2:]
    if u.numel() == 0:
        return u, torch.zeros((2, channels), dtype=torch.float32, device=x.device)
    pads = [pad_before_after(size[i], kernel[i], geometry[i], geometry[2 + i], geometry[4 + i])[0] for i in (0, 1)]
    tiling = Tiling.of(x, weight, u, "depthwise_training", _PROGRAMS)
    parts = batch * tiling.strips * tiling.tiles_w
    found = torch.empty((parts, 3, channels), dtype=torch.float32, device=x.device)
    count, unit = units(channels)
    launch(
        stats_kernel,
        (parts * tiling.tiles_c,),
        rows(x),
        dense(affine),
        weight.permute(2, 3, 1, 0).contiguous(),
        u,
        found,
        count,
        *size,
        *u.shape[2:],
        *pads,
        tiling.strips,
        tiling.tiles_w,
        tiling.tiles_c,
        UNIT=unit,
        KERNEL_H=kernel[0],
        KERNEL_W=kernel[1],
        STRIDE_H=stride_h,
        STRIDE_W=stride_w,
        DILATION_H=dilation_h,
        DILATION_W=dilation_w,
        ACT=act,
        **tiling.blocks,
    )
    return u, join_moments(found)
