"""Pointwise convolution: a matrix product with the gate in its prologue; bias, activation, residual in its epilogue.

Bytes: x once from memory (tiles of the same pixels run side by side and share it in L2), y once, gate and weight from
L2, residual once. Arithmetic: in_channels multiply-adds an output on tensor cores, in float32 units for float32.
"""

from __future__ import annotations

import triton
import triton.language as tl
from torch import Tensor

from .. import fake
from .gemm import finish, strides, tiles
from .launch import dense, launch, rows, units


@triton.jit
def _pointwise(
    x,
    weight,
    bias,
    gate,
    residual,
    y,
    pixels,
    image_pixels,
    in_units,
    out_units,
    k_units,
    n_units,
    tiles_n,
    IN_UNIT: tl.constexpr,
    OUT_UNIT: tl.constexpr,
    K_UNIT: tl.constexpr,
    N_UNIT: tl.constexpr,
    ACT: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_K: tl.constexpr,
):
    in_channels = in_units * IN_UNIT
    out_channels = out_units * OUT_UNIT
    # Offsets that may pass 2^31 are scalars of 64 bits; those inside of a tile are 32 bits wide.
    first = (tl.program_id(0) // tiles_n).to(tl.int64) * BLOCK_M
    m = tl.arange(0, BLOCK_M)
    n = tl.program_id(0) % tiles_n * BLOCK_N + tl.arange(0, BLOCK_N)
    m_mask = first + m < pixels
    n_mask = n < out_channels
    x_tile = x + first * in_channels + m[:, None] * in_channels
    weight_tile = weight + n[None, :] * (n_units * N_UNIT)
    if gate is not None:
        image = first // image_pixels
        later = ((first - image * image_pixels).to(tl.int32) + m) // image_pixels
        gate_rows = gate + image * in_channels + later[:, None] * in_channels
    total = tl.zeros([BLOCK_M, BLOCK_N], tl.float32)
    for first_k in range(0, in_channels, BLOCK_K):
        k = first_k + tl.arange(0, BLOCK_K)
        k_mask = k < in_channels
        a_mask = m_mask[:, None] & k_mask[None, :]
        a = tl.load(x_tile + k[None, :], a_mask, 0.0)
        b = tl.load(weight_tile + k[:, None] * (k_units * K_UNIT), k_mask[:, None] & n_mask[None, :], 0.0)
        if gate is not None:
            a = (a.to(tl.float32) * tl.load(gate_rows + k[None, :], a_mask, 0.0)).to(b.dtype)
        total = tl.dot(a, b, total, input_precision="ieee")
    value = finish(total, bias, n, n_mask, ACT)
    place = first * out_channels + (m[:, None] * out_channels + n[None, :])
    mask = m_mask[:, None] & n_mask[None, :]
    if residual is not None:
        value += tl.load(residual + place, mask, 0.0).to(tl.float32)
    tl.store(y + place, value.to(y.dtype.element_ty), mask)


def pointwise_conv_act(
    x: Tensor, weight: Tensor, bias: Tensor | None, gate: Tensor | None, residual: Tensor | None, act: int
) -> Tensor:
    y = fake.pointwise_conv_act(x, weight, bias, gate, residual, act)
    batch, in_channels, height, width = x.shape
    out_channels = weight.shape[0]
    pixels = batch * height * width
    in_count, in_unit = units(in_channels)
    out_count, out_unit = units(out_channels)
    k_count, n_count, k_unit, n_unit = strides(weight.stride(1), weight.stride(0))
    shape = tiles(x, pixels, out_channels, in_channels)
    launch(
        _pointwise,
        (shape.tiles_m * shape.tiles_n,),
        rows(x),
        weight,
        dense(bias),
        dense(gate),
        None if residual is None else rows(residual),
        y,
        pixels,
        height * width,
        in_count,
        out_count,
        k_count,
        n_count,
        shape.tiles_n,
        IN_UNIT=in_unit,
        OUT_UNIT=out_unit,
        K_UNIT=k_unit,
        N_UNIT=n_unit,
        ACT=act,
        BLOCK_M=shape.block_m,
        BLOCK_N=shape.block_n,
        BLOCK_K=shape.block_k,
        num_warps=shape.num_warps,
        num_stages=shape.num_stages,
    )
    return y
