"""Reductions in two stages: how rows are split into parts, and the kernels that join what the parts found.

A split depends on shapes alone and parts are joined in a fixed order, so that results are the same bits every time.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import triton
import triton.language as tl
from torch import Tensor

from .launch import launch, power_of_2

# Programs that a reduction is split into where it has the rows: several for every multiprocessor of a large GPU.
_PROGRAMS = 1024


def channel_tile(channels: int, largest: int = 128) -> int:
    """The largest tile of channels that idles little: within a quarter over the channels, or a whole power of two."""
    tile = max(16, power_of_2(channels))
    if tile <= min(64, largest):
        return tile
    tile = largest
    while tile > 16 and triton.cdiv(channels, tile) * tile > channels * 5 // 4:
        tile //= 2
    return tile


@dataclass(frozen=True)
class Split:
    """Rows in parts of whole tiles."""

    parts: int
    tiles: int  # of a part

    @staticmethod
    def of(rows: int, tile: int, others: int, programs: int = _PROGRAMS) -> Split:
        """Into about as many parts as make ``programs`` together with ``others``, what else the grid runs over."""
        tiles = max(1, triton.cdiv(rows, tile))
        per_part = triton.cdiv(tiles, max(1, programs // max(1, others)))
        return Split(triton.cdiv(tiles, per_part), per_part)


# Parts that one program adds up; more are added up in two launches or three.
_PARTS = 128


@triton.jit
def sum_parts_kernel(found, out, parts, length, PARTS: tl.constexpr, BLOCK_P: tl.constexpr, BLOCK: tl.constexpr):
    # Bytes: parts * length * 4 read (mostly from L2), a PARTS-th of it written; one addition a value.
    blocks = tl.cdiv(length, BLOCK)
    columns = (tl.program_id(0) % blocks) * BLOCK + tl.arange(0, BLOCK)
    group = tl.program_id(0) // blocks
    total = tl.zeros((BLOCK_P, BLOCK), tl.float32)
    for first in range(0, PARTS, BLOCK_P):
        part = group * PARTS + first + tl.arange(0, BLOCK_P)
        at = part[:, None].to(tl.int64) * length + columns[None, :]
        total += tl.load(found + at, mask=(part < parts)[:, None] & (columns < length)[None, :], other=0.0)
    tl.store(out + group.to(tl.int64) * length + columns, tl.sum(total, 0), mask=columns < length)


def sum_parts(found: Tensor) -> Tensor:
    """The sum of a (parts, ...) tensor over its parts."""
    block = 64
    while (parts := found.shape[0]) > 1:
        out = torch.empty((triton.cdiv(parts, _PARTS), *found.shape[1:]), dtype=found.dtype, device=found.device)
        length = out[0].numel()
        grid = (out.shape[0] * triton.cdiv(length, block),)
        blocks = {"PARTS": min(_PARTS, power_of_2(parts)), "BLOCK_P": min(16, power_of_2(parts)), "BLOCK": block}
        launch(sum_parts_kernel, grid, found, out, parts, length, num_warps=4, **blocks)
        found = out
    return found[0]


@triton.jit
def moments(values, there):
    """Mean and sum of squared distances from it of the rows (rows, 1) of a tile that are there."""
    count = tl.maximum(tl.sum(there.to(tl.float32), 0), 1.0)
    mean = tl.sum(tl.where(there, values, 0.0), 0) / count
    away = tl.where(there, values - mean[None, :], 0.0)
    return mean, tl.sum(away * away, 0)


@triton.jit
def join(count, mean, m2, other_count, other_mean, other_m2):
    """Moments of two sets by Chan's formula; counts are float32."""
    total = count + other_count
    share = other_count / tl.maximum(total, 1.0)
    apart = other_mean - mean
    return total, mean + apart * share, m2 + other_m2 + apart * apart * count * share


@triton.jit
def join_many(counts, means, m2s):
    """Moments of all the sets along axis 0, by Chan's formula for many; counts are float32."""
    total = tl.sum(counts, 0)
    mean = tl.sum(means * counts, 0) / tl.maximum(total, 1.0)
    apart = means - mean[None, :]
    return total, mean, tl.sum(m2s + apart * apart * counts, 0)


@triton.jit
def store_moments(found, part, columns, channels, count, mean, m2):
    """What a part found, as a row of (parts, 3, C): count, mean and sum of squared distances from it."""
    to = found + part * 3 * channels + columns
    tl.store(to, tl.zeros(columns.shape, tl.float32) + count, mask=columns < channels)
    tl.store(to + channels, mean, mask=columns < channels)
    tl.store(to + 2 * channels, m2, mask=columns < channels)


@triton.jit
def join_moments_kernel(found, out, parts, channels, BLOCK_P: tl.constexpr, BLOCK_C: tl.constexpr):
    # Bytes: parts * 3 * C * 4 read (mostly from L2), 2 * C * 4 written; about ten operations a value.
    columns = tl.program_id(0) * BLOCK_C + tl.arange(0, BLOCK_C)
    inside = columns < channels
    count = tl.zeros((BLOCK_C,), tl.float32)
    mean = tl.zeros((BLOCK_C,), tl.float32)
    m2 = tl.zeros((BLOCK_C,), tl.float32)
    for first in range(0, parts, BLOCK_P):
        part = first + tl.arange(0, BLOCK_P)
        at = part[:, None].to(tl.int64) * 3 * channels + columns[None, :]
        mask = (part < parts)[:, None] & inside[None, :]
        counts = tl.load(found + at, mask=mask, other=0.0)
        means = tl.load(found + at + channels, mask=mask, other=0.0)
        m2s = tl.load(found + at + 2 * channels, mask=mask, other=0.0)
        block_count, block_mean, block_m2 = join_many(counts, means, m2s)
        count, mean, m2 = join(count, mean, m2, block_count, block_mean, block_m2)
    tl.store(out + columns, mean, mask=inside)
    tl.store(out + channels + columns, m2 / tl.maximum(count, 1.0), mask=inside)


def join_moments(found: Tensor) -> Tensor:
    """Mean and biased variance (2, C) of everything, from the moments (parts, 3, C) of the parts."""
    parts, _, channels = found.shape
    out = torch.empty((2, channels), dtype=torch.float32, device=found.device)
    block = 16
    grid = (triton.cdiv(channels, block),)
    launch(join_moments_kernel, grid, found, out, parts, channels, num_warps=4, BLOCK_P=64, BLOCK_C=block)
    return out
