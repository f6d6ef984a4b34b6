"""A few calls of every CUDA kernel on a GPU: what compute-sanitizer watches (scripts/gpu_check.py)."""

from __future__ import annotations

import torch

import effops
from effops import ops
from effops.ops import backends
from effops.testing import KernelSample, kernel_samples, samples

# Odd shapes, where a kernel would reach past an end, and one of the networks' own.
_NAMES = ("3x13", "2x13", "2x17", "2x32", "2x16", "1x7x1x1")


def fused_blocks() -> int:
    """Blocks just large enough to run as one kernel (csrc/cuda/mbconv_heuristics.h)."""

    def normal(*size: int) -> torch.Tensor:
        return torch.randn(size, dtype=torch.bfloat16, device="cuda")

    project = normal(48, 192, 1, 1), None
    with torch.no_grad(), effops.backend("cuda"):
        ops.fused_mbconv(normal(4, 48, 48, 48), (normal(192, 48, 3, 3), None), project, padding=1, residual=True)
        narrow = normal(24, 144, 1, 1), None
        expand, depthwise = (normal(144, 24, 1, 1), None), (normal(144, 1, 3, 3), None)
        ops.mbconv(normal(4, 24, 56, 56), expand, depthwise, narrow, padding=1, residual=True)
    return 2


def main() -> None:
    cuda, count = backends.BACKENDS["cuda"], 0
    for sample in [*map(KernelSample.of, samples()), *kernel_samples()]:
        if not sample.name.startswith(_NAMES):
            continue
        for dtype in (torch.float32, torch.bfloat16):
            moved = sample.to(dtype).map(lambda name, t: t.cuda())
            if backends.why_not(cuda, moved.op, moved.args) is None:
                cuda.run(moved.op, moved.args)
                count += 1
    count += fused_blocks()
    torch.cuda.synchronize()
    print(f"{count} calls of CUDA kernels")


if __name__ == "__main__":
    main()
