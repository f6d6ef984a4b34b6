"""The training rows of the op table as Triton kernels, in the interpreter, against the float64 reference.

By default one small sample of each kind; all of them, networks' shapes too, are marked slow.
"""

import re

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from effops.ops import triton as triton_backend
from effops.testing import kernel_samples
from tests.ops.layouts import LAYOUTS

from .memory import between_nans
from .parity import DTYPES, check, run

SAMPLES = list(kernel_samples())
# Odd channels and sizes, many parts, kernels of asymmetric padding with strides and dilation, a single value.
_TELLING = (
    r"batch_norm\w+-3x13x9x7",
    r"batch_norm_stats-(1x1x1x1|1x96x28x28)",
    r"batch_norm_grad_sums-1x96x28x28-relu",
    r"se_gate_backward-2x13",
    r"pointwise\w+-2x13x5x7x17",
    r"depthwise_conv_stats-(1x19x2x3|1x12x10x11\S+view)",
    r"depthwise_conv_backward-1x19x2x3",
    r"depthwise_conv_backward-(1x12x10x11|2x1x9x7)\S+view-pooled",
)
TELLING = [s for s in SAMPLES if any(re.match(pattern, str(s)) for pattern in _TELLING)]
# One of every row and of every kind of view, for what does not depend on shapes.
_ONE = r"3x13x9x7-(identity|relu6)|13-r1|2x13x5x7x17-\w+-(gated|pooled)|1x19x2x3\S+view"
ONE_OF_EACH = [s for s in TELLING if re.search(_ONE, str(s))]


def scale_of(sample):
    """Sums and statistics cancel: they are rounded as their terms are, products of two values."""
    largest = max((t.abs().max().item() for t in sample.args if isinstance(t, torch.Tensor) and t.numel()), default=0.0)
    return lambda exact, i: 0.0 if exact[i].dim() == 4 else max(1.0, largest) ** 2


def hold(sample):
    return check(sample, scale_of(sample))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("sample", TELLING, ids=str)
def test_parity(guarded_outputs, sample, dtype):
    """Outputs start as NaN between guard bands, so that what is not written, or written beside them, shows."""
    assert not any(t.isnan().any() for t in hold(sample.to(dtype)))


@pytest.mark.parametrize("sample", [s for s in SAMPLES if "-0x16" in str(s)], ids=str)
def test_batch_of_nothing(sample):
    hold(sample)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("sample", SAMPLES, ids=str)
def test_parity_of_all(sample, dtype):
    hold(sample.to(dtype))


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("sample", [s for s in ONE_OF_EACH if not re.search(r"backward-1x19\S+view$", str(s))], ids=str)
def test_layouts(sample, layout):
    """Of inputs and of incoming gradients: stride 0 is legal there."""
    hold(sample.map(lambda name, t: LAYOUTS[layout](t) if t.dim() > 1 else t))


@pytest.mark.parametrize("sample", ONE_OF_EACH, ids=str)
def test_same_bits_again_and_between_nans(sample):
    """Every tensor, vectors too, in the middle of NaN gives the very same bits: nothing else is read."""
    first, again = run(sample), run(sample.map(between_nans))
    for a, b in zip(first, again, strict=True):
        assert torch.equal(a, b) and not a.isnan().any()


@pytest.mark.parametrize("sample", ONE_OF_EACH, ids=str)
def test_outputs_are_as_traced(sample):
    """Shapes, dtypes and strides are those of the fake kernels."""
    with FakeTensorMode() as mode:
        args = [mode.from_tensor(a) if isinstance(a, torch.Tensor) else a for a in sample.args]
        traced = sample.op.fake(*args)
    traced = traced if isinstance(traced, tuple) else (traced,)
    for actual, expected in zip(run(sample), traced, strict=True):
        assert actual.shape == expected.shape and actual.dtype == expected.dtype
        assert actual.stride() == expected.stride() or actual.numel() <= 1


def test_every_training_row_is_here():
    rows = {sample.op.name for sample in SAMPLES}
    assert rows <= set(triton_backend.MODULES)
    assert rows == {sample.op.name for sample in TELLING} == {sample.op.name for sample in ONE_OF_EACH}
