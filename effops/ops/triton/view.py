"""Device functions that compute a view, and the gradient behind one, while their tensors are loaded.

See :mod:`effops.ops.reference_training` for the formulas. What is absent is a None pointer, which Triton compiles away.
A tile is (pixels, channels); vectors of a channel are (channels,). All arithmetic is in float32.
"""

from __future__ import annotations

import triton
import triton.language as tl

from .activation import activate, value_and_slope


@triton.jit
def load_tile(tensor, at, mask):
    """A tile in float32, zero outside of the mask."""
    return tl.load(tensor + at, mask=mask, other=0.0).to(tl.float32)


@triton.jit
def load_vector(vectors, index: tl.constexpr, columns, inside, channels):
    """One row of a (k, C) tensor, or of anything that lies in memory so."""
    return tl.load(vectors + index * channels + columns, mask=inside, other=0.0)


@triton.jit
def load_affine(affine, columns, inside, channels):
    """(mean, scale, shift); None where there is no affine."""
    if affine is not None:
        return (
            load_vector(affine, 0, columns, inside, channels),
            load_vector(affine, 1, columns, inside, channels),
            load_vector(affine, 2, columns, inside, channels),
        )


@triton.jit
def load_coef(coef, columns, inside, channels):
    """(mean, scale, shift, slope, offset); None where there is no coef."""
    if coef is not None:
        return (
            load_vector(coef, 0, columns, inside, channels),
            load_vector(coef, 1, columns, inside, channels),
            load_vector(coef, 2, columns, inside, channels),
            load_vector(coef, 3, columns, inside, channels),
            load_vector(coef, 4, columns, inside, channels),
        )


@triton.jit
def load_image_vector(values, image, columns, inside, channels):
    """A row of an (N, C) tensor, shaped to broadcast over pixels; None where there is none."""
    if values is not None:
        return tl.load(values + image * channels + columns, mask=inside, other=0.0)[None, :]


@triton.jit
def image_of(first, pixels, BLOCK: tl.constexpr):
    """The images that rows of a batch's pixels belong to, from this one on; 64-bit division for one row alone."""
    return first // pixels + ((first % pixels).to(tl.int32) + tl.arange(0, BLOCK)) // pixels


@triton.jit
def load_image_tile(values, image, columns, mask, channels):
    """The rows of an (N, C) tensor that belong to the rows of a tile; None where there is none."""
    if values is not None:
        return tl.load(values + image[:, None] * channels + columns[None, :], mask=mask, other=0.0)


@triton.jit
def normalised(x, affine):
    """z, where there is an affine."""
    if affine is None:
        return x
    else:
        return (x - affine[0][None, :]) * affine[1][None, :] + affine[2][None, :]


@triton.jit
def load_view(x, at, mask, affine, ACT: tl.constexpr):
    """act(z) of the tile at these offsets; act(shift) outside of the mask."""
    return activate(normalised(load_tile(x, at, mask), affine), ACT)


@triton.jit
def load_input_grad(grad, u, at, mask, coef, gate, pool_grad, ACT: tl.constexpr):
    """du of the tile at these offsets; any value outside of the mask. gate and pool_grad broadcast over the tile."""
    value = load_tile(grad, at, mask)
    if gate is not None:
        value *= gate
    if pool_grad is not None:
        value += pool_grad
    if coef is not None:
        away = load_tile(u, at, mask) - coef[0][None, :]
        _, bend = value_and_slope(away * coef[1][None, :] + coef[2][None, :], ACT)
        value = coef[1][None, :] * (value * bend) + coef[3][None, :] * away + coef[4][None, :]
    return value


@triton.jit
def dot_view(value, matrix, total, EXACT: tl.constexpr):
    """total + value @ matrix, value a view in float32 and the matrix in the images' dtype.

    Of 16-bit images the view is multiplied as the sum of two 16-bit values, on tensor cores, because it is not rounded
    before its convolution; one is enough where it is EXACT.
    """
    high = value.to(matrix.dtype)
    total = tl.dot(high, matrix, total, input_precision="ieee")
    if matrix.dtype.primitive_bitwidth == 16 and not EXACT:
        rest = value - high.to(tl.float32)
        # Infinity is passed on by the first of the two alone.
        rest = tl.where(tl.abs(rest) < float("inf"), rest, 0.0)
        total = tl.dot(rest.to(matrix.dtype), matrix, total, input_precision="ieee")
    return total
