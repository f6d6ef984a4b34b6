"""A few calls of every CUDA kernel on a GPU: what compute-sanitizer watches (scripts/gpu_check.py)."""

from __future__ import annotations

import torch

from effops.ops import backends
from effops.testing import KernelSample, kernel_samples, samples

# Odd shapes, where a kernel would reach past an end, and one of the networks' own.
_NAMES = ("3x13", "2x13", "2x17", "2x32", "2x16", "1x7x1x1")


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
    torch.cuda.synchronize()
    print(f"{count} calls of CUDA kernels")


if __name__ == "__main__":
    main()
