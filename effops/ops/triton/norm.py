"""Batch norm in training: statistics, the view and its mean, and their gradients.

Every kernel runs over the pixels of an image as a (pixels, C) matrix; where nothing depends on the image, the whole
batch is one. A program takes a tile of channels and a part of the pixels, in tiles of BLOCK_M.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import triton
import triton.language as tl
from torch import Tensor

from ..fake import image_like
from .activation import value_and_slope
from .launch import config, dense, dtype_bucket, launch, power_of_2, rows, units
from .parts import Split, channel_tile, join_many, join_moments, store_moments, sum_parts
from .view import load_affine, load_coef, load_image_vector, load_input_grad, load_tile, load_view, normalised


@dataclass(frozen=True)
class _Plan:
    """How a kernel of this module runs over images of so many pixels."""

    images: int
    pixels: int
    channels: int
    split: Split
    blocks: dict[str, int]

    @staticmethod
    def of(x: Tensor, table: str, per_image: bool) -> _Plan:
        batch, channels, height, width = x.shape
        images, pixels = (batch, height * width) if per_image else (1, batch * height * width)
        chosen = config(table, x, dtype_bucket(x))
        block_c = channel_tile(channels, chosen["BLOCK_C"])
        # A tile keeps its number of values where the channels are few.
        block_m = min(chosen["VALUES"] // block_c, power_of_2(pixels))
        split = Split.of(pixels, block_m, images * triton.cdiv(channels, block_c), chosen["PROGRAMS"])
        blocks = {"BLOCK_M": block_m, "BLOCK_C": block_c, "num_warps": chosen["num_warps"]}
        return _Plan(images, pixels, channels, split, blocks)

    def run(self, kernel: object, *tensors: Tensor | None, **constexprs: int) -> None:
        grid = (self.images * self.split.parts * triton.cdiv(self.channels, self.blocks["BLOCK_C"]),)
        count, unit = units(self.channels)
        sizes = (self.images, self.pixels, count, self.split.parts, self.split.tiles)
        launch(kernel, grid, *tensors, *sizes, UNIT=unit, **constexprs, **self.blocks)

    def found(self, x: Tensor, *size: int) -> Tensor:
        """What the parts find, on x's device."""
        return torch.empty((self.split.parts, *size), dtype=torch.float32, device=x.device)


@triton.jit
def place(parts, channels, BLOCK_C: tl.constexpr):
    """(image, part, channels) of this program; neighbours in the grid are neighbours in memory."""
    program = tl.program_id(0)
    channel_tiles = tl.cdiv(channels, BLOCK_C)
    columns = (program % channel_tiles) * BLOCK_C + tl.arange(0, BLOCK_C)
    part = program // channel_tiles
    return (part // parts).to(tl.int64), (part % parts).to(tl.int64), columns


@triton.jit
def tile_at(image, first, pixels, columns, channels, BLOCK_M: tl.constexpr):
    """Offsets of a tile, and which of its values there are."""
    pixel = first + tl.arange(0, BLOCK_M)
    at = (image * pixels + pixel)[:, None] * channels + columns[None, :]
    return at, (pixel < pixels)[:, None] & (columns < channels)[None, :]


@triton.jit
def stats_kernel(
    x, found, images, pixels, count, parts, tiles, UNIT: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_C: tl.constexpr
):
    # Bytes: x once; parts * 3 * C * 4 written. Welford's update in every lane, its division once a tile: six operations
    # a value. The lanes are joined at the end.
    channels = count * UNIT
    image, part, columns = place(parts, channels, BLOCK_C)
    mean = tl.zeros((BLOCK_M, BLOCK_C), tl.float32)
    m2 = tl.zeros((BLOCK_M, BLOCK_C), tl.float32)
    counts = tl.zeros((BLOCK_M,), tl.float32)
    for tile in range(tiles):
        first = (part * tiles + tile) * BLOCK_M
        at, mask = tile_at(image, first, pixels, columns, channels, BLOCK_M)
        # Only the very last tile has rows that are none; a lane without one keeps what it has.
        away = tl.where(mask, load_tile(x, at, mask) - mean, 0.0)
        step = away / (tile + 1.0)
        mean += step
        m2 += away * (away - step)
        counts += tl.where(first + tl.arange(0, BLOCK_M) < pixels, 1.0, 0.0)
    part_count, part_mean, part_m2 = join_many(counts[:, None], mean, m2)
    store_moments(found, part, columns, channels, part_count, part_mean, part_m2)


def batch_norm_stats(x: Tensor) -> Tensor:
    """See reference_training."""
    if x.numel() == 0:
        return torch.zeros((2, x.shape[1]), dtype=torch.float32, device=x.device)
    plan = _Plan.of(x, "norm_reduce", per_image=False)
    found = plan.found(x, 3, plan.channels)
    plan.run(stats_kernel, rows(x), found)
    return join_moments(found)


@triton.jit
def view_kernel(
    x,
    affine,
    gate,
    residual,
    y,
    means,
    images,
    pixels,
    count,
    parts,
    tiles,
    UNIT: tl.constexpr,
    ACT: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_C: tl.constexpr,
):
    # Bytes: x and residual read once, y written once, vectors; y and the means only where asked for. An activation and
    # four operations a value.
    channels = count * UNIT
    image, part, columns = place(parts, channels, BLOCK_C)
    inside = columns < channels
    vectors = load_affine(affine, columns, inside, channels)
    factor = load_image_vector(gate, image, columns, inside, channels)
    total = tl.zeros((BLOCK_M, BLOCK_C), tl.float32)
    for tile in range(tiles):
        at, mask = tile_at(image, (part * tiles + tile) * BLOCK_M, pixels, columns, channels, BLOCK_M)
        value = load_view(x, at, mask, vectors, ACT)
        if gate is not None:
            value *= factor
        if residual is not None:
            value += load_tile(residual, at, mask)
        if y is not None:
            tl.store(y + at, value, mask=mask)
        if means is not None:
            total += tl.where(mask, value, 0.0)
    if means is not None:
        mean = tl.sum(total, 0) / pixels
        tl.store(means + (part * images + image) * channels + columns, mean, mask=inside)


def _view(
    x: Tensor, affine: Tensor, gate: Tensor | None, residual: Tensor | None, act: int, store: bool, pool: bool
) -> tuple[Tensor | None, Tensor | None]:
    """The view of x and its mean, or one of them."""
    plan = _Plan.of(x, "norm_reduce" if pool else "norm_apply", per_image=pool or gate is not None)
    y = image_like(x, *x.shape[1:]) if store else None
    means = plan.found(x, x.shape[0], x.shape[1]) if pool else None
    added = None if residual is None else rows(residual)
    plan.run(view_kernel, rows(x), dense(affine), dense(gate), added, y, means, ACT=act)
    return y, None if means is None else sum_parts(means)


def batch_norm_apply(x: Tensor, affine: Tensor, gate: Tensor | None, residual: Tensor | None, act: int) -> Tensor:
    """See reference_training."""
    return _view(x, affine, gate, residual, act, store=True, pool=False)[0]


def batch_norm_pool(x: Tensor, affine: Tensor, act: int) -> Tensor:
    """See reference_training."""
    return _view(x, affine, None, None, act, store=False, pool=True)[1]


def batch_norm_apply_pool(x: Tensor, affine: Tensor, act: int) -> tuple[Tensor, Tensor]:
    """See reference_training."""
    return _view(x, affine, None, None, act, store=True, pool=True)


@triton.jit
def grad_sums_kernel(
    grad,
    x,
    affine,
    found,
    images,
    pixels,
    count,
    parts,
    tiles,
    UNIT: tl.constexpr,
    ACT: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_C: tl.constexpr,
):
    # Bytes: grad and x once; parts * 5 * N * C * 4 written. An activation with its slope and twelve operations a value.
    channels = count * UNIT
    image, part, columns = place(parts, channels, BLOCK_C)
    inside = columns < channels
    vectors = load_affine(affine, columns, inside, channels)
    g_act = tl.zeros((BLOCK_M, BLOCK_C), tl.float32)
    g_slope = tl.zeros((BLOCK_M, BLOCK_C), tl.float32)
    slopes = tl.zeros((BLOCK_M, BLOCK_C), tl.float32)
    g_away = tl.zeros((BLOCK_M, BLOCK_C), tl.float32)
    aways = tl.zeros((BLOCK_M, BLOCK_C), tl.float32)
    for tile in range(tiles):
        at, mask = tile_at(image, (part * tiles + tile) * BLOCK_M, pixels, columns, channels, BLOCK_M)
        g = load_tile(grad, at, mask)
        away = load_tile(x, at, mask)
        value, slope = value_and_slope(normalised(away, vectors), ACT)
        if affine is not None:
            away -= vectors[0][None, :]
        slope = tl.where(mask, slope, 0.0)
        g_act += g * value
        g_slope += g * slope
        slopes += slope
        g_away += g * slope * away
        aways += slope * away
    plane = images.to(tl.int64) * channels
    to = found + part * 5 * plane + image * channels + columns
    tl.store(to, tl.sum(g_act, 0), mask=inside)
    tl.store(to + plane, tl.sum(g_slope, 0), mask=inside)
    tl.store(to + 2 * plane, tl.sum(slopes, 0), mask=inside)
    tl.store(to + 3 * plane, tl.sum(g_away, 0), mask=inside)
    tl.store(to + 4 * plane, tl.sum(aways, 0), mask=inside)


def batch_norm_grad_sums(grad: Tensor, x: Tensor, affine: Tensor | None, act: int) -> Tensor:
    """See reference_training."""
    plan = _Plan.of(x, "norm_reduce", per_image=True)
    found = plan.found(x, 5, x.shape[0], x.shape[1])
    plan.run(grad_sums_kernel, rows(grad), rows(x), dense(affine), found, ACT=act)
    return sum_parts(found)


@triton.jit
def grad_apply_kernel(
    grad,
    u,
    coef,
    gate,
    pool_grad,
    du,
    images,
    pixels,
    count,
    parts,
    tiles,
    UNIT: tl.constexpr,
    ACT: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_C: tl.constexpr,
):
    # Bytes: grad and u read once, du written once, vectors. An activation's slope and ten operations a value.
    channels = count * UNIT
    image, part, columns = place(parts, channels, BLOCK_C)
    inside = columns < channels
    vectors = load_coef(coef, columns, inside, channels)
    factor = load_image_vector(gate, image, columns, inside, channels)
    addend = load_image_vector(pool_grad, image, columns, inside, channels)
    for tile in range(tiles):
        at, mask = tile_at(image, (part * tiles + tile) * BLOCK_M, pixels, columns, channels, BLOCK_M)
        tl.store(du + at, load_input_grad(grad, u, at, mask, vectors, factor, addend, ACT), mask=mask)


def batch_norm_grad_apply(
    grad: Tensor, u: Tensor | None, coef: Tensor | None, gate: Tensor | None, pool_grad: Tensor | None, act: int
) -> Tensor:
    """See reference_training."""
    plan = _Plan.of(grad, "norm_apply", per_image=gate is not None or pool_grad is not None)
    du = image_like(grad, *grad.shape[1:])
    values = None if coef is None else rows(u)
    plan.run(grad_apply_kernel, rows(grad), values, dense(coef), dense(gate), dense(pool_grad), du, ACT=act)
    return du
