"""What the kernels that multiply matrices share: tiles, weights by strides, and what follows the product."""

from __future__ import annotations

from dataclasses import dataclass

import triton
import triton.language as tl
from torch import Tensor

from .activation import activate
from .launch import config, dtype_bucket, power_of_2, units

# Rows of a tile are given up for as many programs as this, so that large GPUs are filled.
_PROGRAMS = 256
# The least that tl.dot takes along each side.
_LEAST = 16
# What Hopper's tensor cores multiply at once: 64 rows, by 4 warps.
_LEAST_M, _WARPGROUP = 64, 4
# Of the product: 32 a thread leave registers for the addresses and masks of what is loaded.
_VALUES_A_WARP = 1024


@dataclass(frozen=True)
class Tiles:
    """The tiles of a product (m, k) x (k, n) and how its programs run."""

    block_m: int
    block_n: int
    block_k: int
    num_warps: int
    num_stages: int
    tiles_m: int
    tiles_n: int


def tiles(x: Tensor, m: int, n: int, k: int) -> Tiles:
    """By the table ``configs/gemm.json`` and the shape alone."""
    chosen = config("gemm", x, dtype_bucket(x))
    block_n = max(_LEAST, min(chosen["BLOCK_N"], power_of_2(n)))
    block_k = max(_LEAST, min(chosen["BLOCK_K"], power_of_2(k)))
    block_m = max(_LEAST, min(chosen["BLOCK_M"], power_of_2(m)))
    tiles_n = -(-n // block_n)
    while block_m > _LEAST_M and -(-m // block_m) * tiles_n < _PROGRAMS:
        block_m //= 2
    num_warps = min(chosen["num_warps"], max(_WARPGROUP, block_m * block_n // _VALUES_A_WARP))
    return Tiles(block_m, block_n, block_k, num_warps, chosen["num_stages"], -(-m // block_m), tiles_n)


def strides(stride_k: int, stride_n: int) -> tuple[int, int, int, int]:
    """Counts and units of a weight's strides, so that it is read in the order in which it lies: see ``units``."""
    count_k, unit_k = units(stride_k)
    count_n, unit_n = units(stride_n)
    return count_k, count_n, unit_k, unit_n


@triton.jit
def finish(total, bias, n, n_mask, ACT: tl.constexpr):
    """act(total + bias) for the output channels n."""
    if bias is not None:
        total += tl.load(bias + n, n_mask, 0.0).to(tl.float32)[None, :]
    return activate(total, ACT)
