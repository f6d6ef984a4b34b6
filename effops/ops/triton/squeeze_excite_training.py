"""The backward of squeeze-excite's two small matrices: from the gate and its gradient to all of theirs."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from .activation import gate_slope, value_and_slope
from .launch import dense, launch

# Tiles of images, of channels and of what they are reduced to.
_BLOCKS = {"BLOCK_N": 16, "BLOCK_C": 32, "BLOCK_R": 32}


@triton.jit
def load_matrix(matrix, rows, columns, height, width):
    """A tile of a dense matrix in float32, zero outside."""
    at = rows[:, None].to(tl.int64) * width + columns[None, :]
    mask = (rows < height)[:, None] & (columns < width)[None, :]
    return tl.load(matrix + at, mask=mask, other=0.0).to(tl.float32)


@triton.jit
def store_matrix(matrix, rows, columns, height, width, value):
    at = rows[:, None].to(tl.int64) * width + columns[None, :]
    tl.store(matrix + at, value, mask=(rows < height)[:, None] & (columns < width)[None, :])


@triton.jit
def load_d_logits(grad, gated, rows, columns, height, width, GATE: tl.constexpr):
    slope = gate_slope(load_matrix(gated, rows, columns, height, width), GATE)
    return load_matrix(grad, rows, columns, height, width) * slope


@triton.jit
def hidden_kernel(
    grad,
    gated,
    pooled,
    reduce,
    bias,
    expand,
    hidden,
    d_hidden,
    images,
    channels,
    reduced,
    ACT: tl.constexpr,
    GATE: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_C: tl.constexpr,
    BLOCK_R: tl.constexpr,
):
    # The hidden layer once more, and its gradient before the activation. Bytes: grad, gated, pooled and both matrices,
    # from L2 for every tile but the first; 4 N C R operations, few beside those of a convolution.
    n = tl.program_id(0) * BLOCK_N + tl.arange(0, BLOCK_N)
    r = tl.program_id(1) * BLOCK_R + tl.arange(0, BLOCK_R)
    z = tl.zeros((BLOCK_N, BLOCK_R), tl.float32)
    d = tl.zeros((BLOCK_N, BLOCK_R), tl.float32)
    for first in range(0, channels, BLOCK_C):
        c = first + tl.arange(0, BLOCK_C)
        weight = load_matrix(reduce, r, c, reduced, channels)
        z = tl.dot(load_matrix(pooled, n, c, images, channels), weight.T, z, input_precision="ieee")
        weight = load_matrix(expand, c, r, channels, reduced)
        d = tl.dot(load_d_logits(grad, gated, n, c, images, channels, GATE), weight, d, input_precision="ieee")
    if bias is not None:
        z += tl.load(bias + r, mask=r < reduced, other=0.0).to(tl.float32)[None, :]
    value, slope = value_and_slope(z, ACT)
    store_matrix(hidden, n, r, images, reduced, value)
    store_matrix(d_hidden, n, r, images, reduced, d * slope)


@triton.jit
def weights_kernel(
    grad,
    gated,
    pooled,
    hidden,
    d_hidden,
    d_reduce,
    d_reduce_bias,
    d_expand,
    d_expand_bias,
    images,
    channels,
    reduced,
    GATE: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_C: tl.constexpr,
    BLOCK_R: tl.constexpr,
):
    # Sums over images, in their order: 4 N C R operations. The first tiles of a row and of a column add up the biases.
    c = tl.program_id(0) * BLOCK_C + tl.arange(0, BLOCK_C)
    r = tl.program_id(1) * BLOCK_R + tl.arange(0, BLOCK_R)
    first_matrix = tl.zeros((BLOCK_R, BLOCK_C), tl.float32)
    second_matrix = tl.zeros((BLOCK_C, BLOCK_R), tl.float32)
    first_bias = tl.zeros((BLOCK_R,), tl.float32)
    second_bias = tl.zeros((BLOCK_C,), tl.float32)
    for first in range(0, images, BLOCK_N):
        n = first + tl.arange(0, BLOCK_N)
        d = load_matrix(d_hidden, n, r, images, reduced)
        pools = load_matrix(pooled, n, c, images, channels)
        first_matrix = tl.dot(d.T, pools, first_matrix, input_precision="ieee")
        first_bias += tl.sum(d, 0)
        d = load_d_logits(grad, gated, n, c, images, channels, GATE)
        values = load_matrix(hidden, n, r, images, reduced)
        second_matrix = tl.dot(d.T, values, second_matrix, input_precision="ieee")
        second_bias += tl.sum(d, 0)
    store_matrix(d_reduce, r, c, reduced, channels, first_matrix)
    store_matrix(d_expand, c, r, channels, reduced, second_matrix)
    tl.store(d_reduce_bias + r, first_bias, mask=(r < reduced) & (tl.program_id(0) == 0))
    tl.store(d_expand_bias + c, second_bias, mask=(c < channels) & (tl.program_id(1) == 0))


@triton.jit
def pooled_kernel(
    d_hidden,
    reduce,
    d_pooled,
    images,
    channels,
    reduced,
    BLOCK_N: tl.constexpr,
    BLOCK_C: tl.constexpr,
    BLOCK_R: tl.constexpr,
):
    # A product of an (N, R) and an (R, C) matrix: 2 N C R operations.
    n = tl.program_id(0) * BLOCK_N + tl.arange(0, BLOCK_N)
    c = tl.program_id(1) * BLOCK_C + tl.arange(0, BLOCK_C)
    total = tl.zeros((BLOCK_N, BLOCK_C), tl.float32)
    for first in range(0, reduced, BLOCK_R):
        r = first + tl.arange(0, BLOCK_R)
        weight = load_matrix(reduce, r, c, reduced, channels)
        total = tl.dot(load_matrix(d_hidden, n, r, images, reduced), weight, total, input_precision="ieee")
    store_matrix(d_pooled, n, c, images, channels, total)


def se_gate_backward(
    grad: Tensor,
    gated: Tensor,
    pooled: Tensor,
    reduce_weight: Tensor,
    reduce_bias: Tensor | None,
    expand_weight: Tensor,
    expand_bias: Tensor | None,
    act: int,
    gate: int,
) -> tuple[Tensor, ...]:
    """See reference_training."""
    (images, channels), reduced = pooled.shape, reduce_weight.shape[0]

    def empty(*size: int) -> Tensor:
        return torch.empty(size, dtype=torch.float32, device=pooled.device)

    grad, gated, pooled = dense(grad), dense(gated), dense(pooled)
    reduce, bias, expand = dense(reduce_weight), dense(reduce_bias), dense(expand_weight)
    sizes = (images, channels, reduced)
    # Everything here is small and stays in L2: the tiles are those that fit any GPU.
    n, c, r = (triton.cdiv(size, block) for size, block in zip(sizes, _BLOCKS.values(), strict=True))
    hidden, d_hidden = empty(images, reduced), empty(images, reduced)
    inputs = (grad, gated, pooled, reduce, bias, expand, hidden, d_hidden)
    launch(hidden_kernel, (n, r), *inputs, *sizes, ACT=act, GATE=gate, **_BLOCKS)
    found = (empty(*reduce_weight.shape), empty(reduced), empty(*expand_weight.shape), empty(channels))
    launch(weights_kernel, (c, r), grad, gated, pooled, hidden, d_hidden, *found, *sizes, GATE=gate, **_BLOCKS)
    d_pooled = empty(images, channels)
    launch(pooled_kernel, (n, c), d_hidden, reduce, d_pooled, *sizes, **_BLOCKS)
    return d_pooled, *found
