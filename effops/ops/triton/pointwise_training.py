"""1x1 convolutions in training: u = W view(x) with its statistics, and the gradients behind it.

Images are (rows, C) matrices, rows being pixels of the whole batch.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from ..fake import image_like
from .launch import config, dense, dtype_bucket, launch, power_of_2, rows, units
from .norm import batch_norm_grad_sums
from .parts import Split, join, join_moments, moments, store_moments, sum_parts
from .view import dot_view, image_of, load_affine, load_coef, load_image_tile, load_input_grad, load_view


@triton.jit
def stats_kernel(
    x,
    affine,
    gate,
    weight,
    u,
    found,
    height,
    pixels,
    count,
    out_count,
    tiles,
    UNIT: tl.constexpr,
    OUT_UNIT: tl.constexpr,
    ACT: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_K: tl.constexpr,
):
    # Bytes: x once for every tile of output channels that run side by side (from L2 after the first), u written once,
    # the weight from L2, parts * 3 * C_out * 4 written. 2 C_in C_out operations a pixel, and a view for C_in values.
    # Tensor cores take the products of 16-bit images: see dot_view.
    channels = count * UNIT
    out_channels = out_count * OUT_UNIT
    column_tiles = tl.cdiv(out_channels, BLOCK_N)
    columns = (tl.program_id(0) % column_tiles) * BLOCK_N + tl.arange(0, BLOCK_N)
    part = (tl.program_id(0) // column_tiles).to(tl.int64)
    inside = columns < out_channels
    seen = tl.zeros((1,), tl.float32)
    mean = tl.zeros((BLOCK_N,), tl.float32)
    m2 = tl.zeros((BLOCK_N,), tl.float32)
    for tile in range(tiles):
        first = (part * tiles + tile) * BLOCK_M
        row = first + tl.arange(0, BLOCK_M)
        there = (row < height)[:, None]
        image = image_of(first, pixels, BLOCK_M)
        product = tl.zeros((BLOCK_M, BLOCK_N), tl.float32)
        for first_k in range(0, channels, BLOCK_K):
            k = first_k + tl.arange(0, BLOCK_K)
            vectors = load_affine(affine, k, k < channels, channels)
            mask = there & (k < channels)[None, :]
            value = load_view(x, row[:, None] * channels + k[None, :], mask, vectors, ACT)
            if gate is not None:
                value *= load_image_tile(gate, image, k, mask, channels)
            at = columns[None, :] * channels + k[:, None]
            matrix = tl.load(weight + at, mask=inside[None, :] & (k < channels)[:, None], other=0.0)
            exact: tl.constexpr = affine is None and gate is None and ACT == 0
            product = dot_view(value, matrix, product, exact)
        stored = product.to(u.dtype.element_ty)
        tl.store(u + row[:, None] * out_channels + columns[None, :], stored, mask=there & inside[None, :])
        tile_mean, tile_m2 = moments(stored.to(tl.float32), there)
        counted = tl.sum(there.to(tl.float32), 0)
        seen, mean, m2 = join(seen, mean, m2, counted, tile_mean, tile_m2)
    store_moments(found, part, columns, out_channels, seen, mean, m2)


def pointwise_conv_stats(
    x: Tensor, affine: Tensor | None, gate: Tensor | None, weight: Tensor, act: int
) -> tuple[Tensor, Tensor]:
    """See reference_training."""
    (batch, channels, *size), out_channels = x.shape, weight.shape[0]
    u = image_like(x, out_channels, *size)
    pixels = size[0] * size[1]
    height = batch * pixels
    if u.numel() == 0:
        return u, torch.zeros((2, out_channels), dtype=torch.float32, device=x.device)
    blocks = _blocks(x, "pointwise_training", height, out_channels, channels)
    column_tiles = triton.cdiv(out_channels, blocks["BLOCK_N"])
    split = Split.of(height, blocks["BLOCK_M"], column_tiles)
    found = torch.empty((split.parts, 3, out_channels), dtype=torch.float32, device=x.device)
    (count, unit), (out_count, out_unit) = units(channels), units(out_channels)
    tensors = (rows(x), dense(affine), dense(gate), dense(weight), u, found)
    sizes = (height, pixels, count, out_count, split.tiles)
    grid = (split.parts * column_tiles,)
    launch(stats_kernel, grid, *tensors, *sizes, UNIT=unit, OUT_UNIT=out_unit, ACT=act, **blocks)
    return u, join_moments(found)


def _blocks(x: Tensor, table: str, m: int, n: int, k: int) -> dict[str, int]:
    """The configured tiles of a product of an (m, k) and a (k, n) matrix, no larger than the matrices ask for."""
    chosen = dict(config(table, x, dtype_bucket(x)))
    for name, size in (("BLOCK_M", m), ("BLOCK_N", n), ("BLOCK_K", k)):
        # Tensor cores take no less than 16.
        chosen[name] = min(chosen[name], max(16, power_of_2(size)))
    return chosen


@triton.jit
def input_kernel(
    grad,
    u,
    coef,
    u_gate,
    pool_grad,
    weight,
    dx,
    height,
    pixels,
    count,
    out_count,
    UNIT: tl.constexpr,
    OUT_UNIT: tl.constexpr,
    ACT: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_K: tl.constexpr,
):
    # dx = du W. Bytes: grad and u once for every tile of channels (from L2 after the first), dx written once, the
    # weight from L2. 2 C_in C_out operations a pixel, and an activation's slope for C_out values.
    channels = count * UNIT
    out_channels = out_count * OUT_UNIT
    column_tiles = tl.cdiv(channels, BLOCK_N)
    columns = (tl.program_id(0) % column_tiles) * BLOCK_N + tl.arange(0, BLOCK_N)
    first = (tl.program_id(0) // column_tiles).to(tl.int64) * BLOCK_M
    inside = columns < channels
    row = first + tl.arange(0, BLOCK_M)
    there = (row < height)[:, None]
    image = image_of(first, pixels, BLOCK_M)
    product = tl.zeros((BLOCK_M, BLOCK_N), tl.float32)
    for first_k in range(0, out_channels, BLOCK_K):
        k = first_k + tl.arange(0, BLOCK_K)
        vectors = load_coef(coef, k, k < out_channels, out_channels)
        mask = there & (k < out_channels)[None, :]
        factor = load_image_tile(u_gate, image, k, mask, out_channels)
        addend = load_image_tile(pool_grad, image, k, mask, out_channels)
        at = row[:, None] * out_channels + k[None, :]
        du = load_input_grad(grad, u, at, mask, vectors, factor, addend, ACT)
        at = k[:, None] * channels + columns[None, :]
        matrix = tl.load(weight + at, mask=inside[None, :] & (k < out_channels)[:, None], other=0.0)
        exact: tl.constexpr = coef is None and u_gate is None and pool_grad is None
        product = dot_view(du, matrix, product, exact)
    tl.store(dx + row[:, None] * channels + columns[None, :], product, mask=there & inside[None, :])


@triton.jit
def weight_kernel(
    grad,
    u,
    coef,
    u_gate,
    pool_grad,
    x,
    affine,
    gate,
    found,
    height,
    pixels,
    count,
    out_count,
    tiles,
    UNIT: tl.constexpr,
    OUT_UNIT: tl.constexpr,
    U_ACT: tl.constexpr,
    ACT: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_K: tl.constexpr,
):
    # dW = du^T view, a tile of it over a part of the rows. Bytes: grad, u and x once for every tile of the other's
    # channels (from L2 after the first), parts * C_out * C_in * 4 written. 2 C_in C_out operations a pixel, in float32:
    # the gradient of a weight is held to float32 whatever the images are.
    channels = count * UNIT
    out_channels = out_count * OUT_UNIT
    column_tiles = tl.cdiv(channels, BLOCK_N)
    row_tiles = tl.cdiv(out_channels, BLOCK_M)
    tile_of = tl.program_id(0) % (column_tiles * row_tiles)
    part = (tl.program_id(0) // (column_tiles * row_tiles)).to(tl.int64)
    c = (tile_of % column_tiles) * BLOCK_N + tl.arange(0, BLOCK_N)
    o = (tile_of // column_tiles) * BLOCK_M + tl.arange(0, BLOCK_M)
    vectors = load_affine(affine, c, c < channels, channels)
    u_vectors = load_coef(coef, o, o < out_channels, out_channels)
    product = tl.zeros((BLOCK_M, BLOCK_N), tl.float32)
    for tile in range(tiles):
        first = (part * tiles + tile) * BLOCK_K
        row = first + tl.arange(0, BLOCK_K)
        image = image_of(first, pixels, BLOCK_K)
        mask = (row < height)[:, None] & (o < out_channels)[None, :]
        factor = load_image_tile(u_gate, image, o, mask, out_channels)
        addend = load_image_tile(pool_grad, image, o, mask, out_channels)
        at = row[:, None] * out_channels + o[None, :]
        du = load_input_grad(grad, u, at, mask, u_vectors, factor, addend, U_ACT)
        du = tl.where(mask, du, 0.0)
        mask = (row < height)[:, None] & (c < channels)[None, :]
        value = load_view(x, row[:, None] * channels + c[None, :], mask, vectors, ACT)
        if gate is not None:
            value *= load_image_tile(gate, image, c, mask, channels)
        product = tl.dot(du.T, tl.where(mask, value, 0.0), product, input_precision="ieee")
    at = (part * out_channels + o[:, None]) * channels + c[None, :]
    tl.store(found + at, product, mask=(o < out_channels)[:, None] & (c < channels)[None, :])


def pointwise_conv_backward(
    grad: Tensor,
    u: Tensor | None,
    coef: Tensor | None,
    u_gate: Tensor | None,
    pool_grad: Tensor | None,
    u_act: int,
    x: Tensor,
    affine: Tensor | None,
    gate: Tensor | None,
    act: int,
    weight: Tensor,
    need_x: bool,
    need_weight: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """See reference_training."""
    (batch, channels, *size), out_channels = x.shape, weight.shape[0]
    pixels = size[0] * size[1]
    height = batch * pixels
    (count, unit), (out_count, out_unit) = units(channels), units(out_channels)
    sizes = (height, pixels, count, out_count)
    grad_view = (rows(grad), None if coef is None else rows(u), dense(coef), dense(u_gate), dense(pool_grad))
    dx = torch.empty(0, dtype=x.dtype, device=x.device)
    dweight, sums = (torch.empty(0, dtype=torch.float32, device=x.device) for _ in range(2))
    if need_x:
        dx = image_like(x, channels, *size)
        blocks = _blocks(x, "pointwise_training", height, channels, out_channels)
        grid = (triton.cdiv(height, blocks["BLOCK_M"]) * triton.cdiv(channels, blocks["BLOCK_N"]),)
        launch(
            input_kernel, grid, *grad_view, dense(weight), dx, *sizes, UNIT=unit, OUT_UNIT=out_unit, ACT=u_act, **blocks
        )
        if affine is not None or gate is not None:
            sums = batch_norm_grad_sums(dx, x, affine, act)
    if need_weight and height == 0:
        dweight = torch.zeros(weight.shape, dtype=torch.float32, device=x.device)
    elif need_weight:
        blocks = _blocks(x, "pointwise_weight", out_channels, channels, height)
        matrix_tiles = triton.cdiv(out_channels, blocks["BLOCK_M"]) * triton.cdiv(channels, blocks["BLOCK_N"])
        split = Split.of(height, blocks["BLOCK_K"], matrix_tiles)
        found = torch.empty((split.parts, *weight.shape), dtype=torch.float32, device=x.device)
        view = (rows(x), dense(affine), dense(gate))
        grid = (split.parts * matrix_tiles,)
        codes = {"UNIT": unit, "OUT_UNIT": out_unit, "U_ACT": u_act, "ACT": act}
        launch(weight_kernel, grid, *grad_view, *view, found, *sizes, split.tiles, **codes, **blocks)
        dweight = sum_parts(found)
    return dx, dweight, sums
