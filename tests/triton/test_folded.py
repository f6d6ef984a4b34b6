"""The folded ops' rows as Triton kernels, in the interpreter."""

import pytest
import torch

from effops.ops import triton as triton_backend
from effops.testing import samples
from tests.ops.layouts import LAYOUTS

from .memory import between_nans
from .parity import DTYPES, as_kernel_sample, check, run

SAMPLES = [s for s in map(as_kernel_sample, samples()) if s.op.name in triton_backend.MODULES]


def scale_of(exact, i):
    """A mean that cancels is rounded as its terms are."""
    return exact[0].abs().max().item() if exact[0].numel() else 0.0


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("sample", SAMPLES, ids=str)
def test_parity(sample, dtype):
    check(sample.to(dtype), scale_of)
