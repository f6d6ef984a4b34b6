"""Spatial means in two stages: sums of parts of an image in a workspace, then their mean, always in the same order."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from ..fake import accumulated
from .launch import launch, rows, units

_BLOCK_PARTS, _BLOCK_C = 32, 32
# Pixels that one program sums. Few enough that one image alone has several parts from 32 x 32 pixels on.
_PIXELS, _BLOCK_PIXELS = 256, 32


@triton.jit
def _mean_of_sums(partials, mean, parts, pixels, channels, tiles_c, BLOCK_PARTS: tl.constexpr, BLOCK_C: tl.constexpr):
    n = (tl.program_id(0) // tiles_c).to(tl.int64)
    c = tl.program_id(0) % tiles_c * BLOCK_C + tl.arange(0, BLOCK_C)
    mask = c < channels
    part = tl.arange(0, BLOCK_PARTS)
    total = tl.zeros([BLOCK_PARTS, BLOCK_C], tl.float32)
    for first in range(0, parts, BLOCK_PARTS):
        place = (n * parts + first + part)[:, None] * channels + c[None, :]
        total += tl.load(partials + place, (first + part < parts)[:, None] & mask[None, :], 0.0)
    tl.store(mean + n * channels + c, tl.sum(total, 0) / pixels, mask)


@triton.jit
def _sums(
    x,
    partials,
    channel_units,
    pixels,
    parts,
    tiles_c,
    UNIT: tl.constexpr,
    PIXELS: tl.constexpr,
    BLOCK_PIXELS: tl.constexpr,
    BLOCK_C: tl.constexpr,
):
    channels = channel_units * UNIT
    program = tl.program_id(0)
    c = program % tiles_c * BLOCK_C + tl.arange(0, BLOCK_C)
    part = program // tiles_c % parts
    n = (program // (tiles_c * parts)).to(tl.int64)
    mask = c < channels
    pixel = tl.arange(0, BLOCK_PIXELS)
    total = tl.zeros([BLOCK_PIXELS, BLOCK_C], tl.float32)
    for step in range(PIXELS // BLOCK_PIXELS):
        first = part * PIXELS + step * BLOCK_PIXELS
        place = pixel[:, None] * channels + c[None, :]
        valid = (first + pixel < pixels)[:, None] & mask[None, :]
        total += tl.load(x + (n * pixels + first) * channels + place, valid, 0.0).to(tl.float32)
    tl.store(partials + (n * parts + part) * channels + c, tl.sum(total, 0), mask)


def partial_sums(x: Tensor, parts: int) -> Tensor:
    """A workspace (N, parts, C) in float32 for the sums of parts of x's images."""
    return accumulated(x, x.shape[0], parts, x.shape[1])


def mean_of_sums(partials: Tensor, pixels: int) -> Tensor:
    """The sums of a workspace (N, parts, C) over the parts, divided by the number of pixels: (N, C) in float32."""
    n, parts, channels = partials.shape
    mean = torch.empty((n, channels), dtype=torch.float32, device=partials.device)
    tiles_c = -(-channels // _BLOCK_C)
    launch(
        _mean_of_sums,
        (n * tiles_c,),
        partials,
        mean,
        parts,
        pixels,
        channels,
        tiles_c,
        BLOCK_PARTS=_BLOCK_PARTS,
        BLOCK_C=_BLOCK_C,
    )
    return mean


def spatial_mean(x: Tensor) -> Tensor:
    """The mean over pixels, (N, C) in float32. Bytes: x once."""
    n, channels, height, width = x.shape
    pixels = height * width
    parts, tiles_c = -(-pixels // _PIXELS), -(-channels // _BLOCK_C)
    partials = partial_sums(x, parts)
    count, unit = units(channels)
    launch(
        _sums,
        (n * parts * tiles_c,),
        rows(x),
        partials,
        count,
        pixels,
        parts,
        tiles_c,
        UNIT=unit,
        PIXELS=_PIXELS,
        BLOCK_PIXELS=_BLOCK_PIXELS,
        BLOCK_C=_BLOCK_C,
    )
    return mean_of_sums(partials, pixels)
