"""Calls of every row of the op table that has a CUDA kernel, from the samples of the public ops and of the kernels."""

from __future__ import annotations

import torch

from effops.ops.table import OPS
from effops.testing import KernelSample, assert_as_good_as_eager, kernel_samples, samples

from .host_build import NAMESPACE

DTYPES = (torch.float32, torch.bfloat16, torch.float16)
ROWS = {name for name, op in OPS.items() if "cuda" in op.backends.get("cuda", ())}


CALLS = [call for call in [*map(KernelSample.of, samples()), *kernel_samples()] if call.op.name in ROWS]
# Odd sizes and channels, all variants; and a few shapes of the networks.
ODD = [call for call in CALLS if call.name.startswith(("3x13", "2x13", "1x5x"))]
TELLING = ODD + [
    call
    for call in CALLS
    if call.name.startswith(("2x32x", "1x96x", "2x144x", "0x16", "0x3x", "1x33x", "1x10", "1x7", "1x12x"))
]


def run(call: KernelSample) -> tuple[torch.Tensor, ...]:
    return call.run(NAMESPACE)


def check(call: KernelSample) -> None:
    """Hold the kernel to the reference in its own dtype and in float64."""
    actual, eager, exact = run(call), call.reference(), call.to(torch.float64).reference()
    largest = max((t.abs().max().item() for t in call.args if isinstance(t, torch.Tensor) and t.numel()), default=0.0)
    for i, (a, e, x) in enumerate(zip(actual, eager, exact, strict=True)):
        # Sums and statistics cancel: they are rounded as their terms are, products of two values.
        scale = 0.0 if a.dim() == 4 else max(1.0, largest) ** 2
        assert_as_good_as_eager(a, e, x, what=f"{call} output {i}", scale=scale)
        assert a.dim() != 4 or a.is_contiguous(memory_format=torch.channels_last) or a.is_contiguous()
