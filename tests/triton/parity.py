"""A row of the op table as Triton kernels, beside its reference."""

import torch

from effops.ops import triton as triton_backend
from effops.testing import assert_as_good_as_eager

DTYPES = (torch.float32, torch.bfloat16, torch.float16)


def run(sample):
    """The outputs of the Triton kernels."""
    return sample.run(triton_backend.NAMESPACE)


def check(sample, scale_of=None):
    """Hold the kernel to the reference in its own dtype and in float64; hand back its outputs.

    scale_of(exact outputs, i) is the magnitude of the values that output i was computed from, where that is larger.
    """
    outputs = run(sample)
    exact = sample.to(torch.float64).reference()
    for i, (actual, eager) in enumerate(zip(outputs, sample.reference(), strict=True)):
        scale = scale_of(exact, i) if scale_of else 0.0
        assert_as_good_as_eager(actual, eager, exact[i], what=f"{sample} output {i}", scale=scale)
        if actual.dim() == 4:
            assert actual.is_contiguous(memory_format=torch.channels_last) or actual.is_contiguous()
    return outputs
