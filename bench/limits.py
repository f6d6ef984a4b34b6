"""What this machine can do at best, measured in the same run: copy bandwidth and matrix-product rate."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial

import torch

from . import device
from .case import Provider

_GEMM_SIZES = {"cpu": (512, 1024, 2048), "cuda": (4096, 8192)}


def gemm_gflops(dtype: torch.dtype, seconds_per_size: float = 0.5) -> float:
    """The best rate of a square matrix product in this dtype, in GFLOP/s (a multiply-accumulate is two
    operations).

    The fastest call counts, not the median: a limit is what the machine can do when nothing disturbs it.
    """
    best, here = 0.0, device.current()
    for size in _GEMM_SIZES[here.type]:
        a, b = (torch.randn(size, size, dtype=dtype, device=here) for _ in range(2))
        product = torch.empty(size, size, dtype=dtype, device=here)
        fastest, end = math.inf, device.clock() + seconds_per_size
        while device.clock() < end:
            begin = device.clock()
            torch.mm(a, b, out=product)
            fastest = min(fastest, device.clock() - begin)
        best = max(best, 2 * size**3 / fastest / 1e9)
    return best


# Of the product that is timed beside networks: large enough for the best rate, done in some ten milliseconds.
_PRODUCT_SIZE = {"cpu": 1024, "cuda": 8192}


def product_provider(dtype: torch.dtype) -> Provider:
    """A square matrix product, timed in the rounds of a case: what the arithmetic of a network can be compared with
    while other work comes and goes on the machine."""
    here = device.current()
    size = _PRODUCT_SIZE[here.type]
    a, b, product = (torch.randn(size, size, dtype=dtype, device=here) for _ in range(3))
    return Provider(lambda a, b: torch.mm(a, b, out=product), [(a, b)])


def product_macs() -> int:
    """Multiply-accumulates of a call of :func:`product_provider`."""
    return _PRODUCT_SIZE[device.current().type] ** 3


def copy_provider(bytes_moved: int, sets: int) -> Provider:
    """A copy that reads half of these bytes and writes the other half, timed in the rounds of a case."""
    count = max(1, bytes_moved // 2)
    empty = partial(torch.empty, count, dtype=torch.uint8, device=device.current())
    buffers = [(empty(), empty().zero_()) for _ in range(sets)]
    for destination, _ in buffers:
        # Pages that nobody wrote to yet are not memory.
        destination.zero_()
    return Provider(torch.Tensor.copy_, buffers)


@dataclass(frozen=True)
class Limit:
    """The least time for a call, and what sets it."""

    seconds: float
    binds: str

    @classmethod
    def of(cls, *, macs: int, copy_seconds: float, gemm_gflops: float) -> Limit:
        """The longer of moving the bytes, which took a copy ``copy_seconds``, and doing the arithmetic."""
        arithmetic_seconds = 2 * macs / (gemm_gflops * 1e9)
        if copy_seconds >= arithmetic_seconds:
            return cls(copy_seconds, "bandwidth")
        return cls(arithmetic_seconds, "arithmetic")
