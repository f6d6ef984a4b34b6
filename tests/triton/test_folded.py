"""The folded ops' rows as Triton kernels, in the interpreter, against the float64 reference."""

from dataclasses import replace

import pytest
import torch

import effops
from effops.ops import triton as triton_backend
from effops.testing import KernelSample, samples
from tests.ops.layouts import LAYOUTS

from .memory import between_nans
from .parity import DTYPES, check, run

SAMPLES = [s for s in map(KernelSample.of, samples()) if s.op.name in triton_backend.MODULES]
# The interpreter takes milliseconds a block of values: of what is larger only float32, or nothing, is run each time.
_QUICK, _LARGEST = 3_000, 10_000


def _cases():
    for sample in SAMPLES:
        work = sum(t.numel() for t in sample.args if isinstance(t, torch.Tensor))
        # A convolution without its mean does what it does with it.
        work *= 4 if sample.op.name == "depthwise_conv_act" else 1
        for dtype in DTYPES:
            slow = work > (_LARGEST if dtype == torch.float32 else _QUICK)
            yield pytest.param(sample, dtype, marks=[pytest.mark.slow] if slow else [], id=f"{sample}-{dtype}")


def scale_of(exact, i):
    """A mean that cancels is rounded as its terms are."""
    return exact[0].abs().max().item() if exact[0].numel() else 0.0


@pytest.mark.parametrize(("sample", "dtype"), list(_cases()))
def test_parity(sample, dtype):
    check(sample.to(dtype), scale_of)


def one_of(op, name):
    return next(s for s in SAMPLES if s.op.name == op and name in s.name)


ONE_OF_EACH = [
    one_of("conv_act", "2x4x10x11"),
    one_of("depthwise_conv_act_pool", "1x12x10x11-k3-s(2,1)"),
    one_of("pointwise_conv_act", "2x13x5x7-o17-gelu-gate-residual"),
    one_of("se_gate", "2x13x"),
    one_of("squeeze_excite", "2x13x"),
]


@pytest.mark.parametrize("layout", [name for name in LAYOUTS if name != "contiguous"])
@pytest.mark.parametrize("sample", ONE_OF_EACH, ids=str)
def test_layouts(sample, layout):
    check(sample.to(torch.bfloat16).map(lambda name, t: LAYOUTS[layout](t) if t.dim() > 1 else t), scale_of)


@pytest.mark.parametrize("sample", ONE_OF_EACH, ids=str)
def test_nothing_outside_of_tensors_is_read_or_written(sample, guarded_outputs):
    """And nothing is read that was not written: outputs and workspaces start as NaN."""
    for a, b in zip(run(sample.map(between_nans)), run(sample), strict=True):
        assert torch.equal(a, b) and not a.isnan().any()


@pytest.mark.parametrize("sample", ONE_OF_EACH, ids=str)
def test_kernel_layout_and_strided_bias_change_nothing(sample):
    def laid(name, t):
        if name.endswith("weight"):
            return effops.ops.kernel_layout(t)
        return torch.stack([t, t], 1)[:, 0] if t.dim() == 1 else t

    assert all(torch.equal(a, b) for a, b in zip(run(sample.map(laid)), run(sample), strict=True))


@pytest.mark.parametrize("sample", ONE_OF_EACH, ids=str)
def test_nan_passes(sample):
    """Where the reference has NaN, and nowhere else."""
    x = sample.args[0].clone()
    x[0, 0] = float("nan")
    poisoned = replace(sample, args=(x, *sample.args[1:]))
    for actual, expected in zip(run(poisoned), poisoned.reference(), strict=True):
        assert expected.isnan().any() and torch.equal(actual.isnan(), expected.isnan())


def test_images_that_share_a_program_of_the_gate():
    n, c, reduced = 131, 12, 3
    weights = (torch.randn(reduced, c), torch.randn(reduced), torch.randn(c, reduced), None)
    with effops.backend("triton"):
        gate = effops.ops.se_gate(torch.randn(n, c), *weights)
        check(replace(one_of("se_gate", ""), args=(torch.randn(n, c), *weights, 3, 0)))
    assert gate.shape == (n, c)


def test_float32_bias_beside_bfloat16():
    x, weight = torch.zeros(1, 8, 5, 5).bfloat16(), torch.zeros(8, 1, 3, 3).bfloat16()
    with effops.backend("triton"):
        y = effops.ops.depthwise_conv_act(x, weight, torch.tensor([1 + 2**-12] * 8), padding=1)
    assert torch.equal(y, torch.ones_like(y))


def test_bitwise_repeatable():
    sample = one_of("depthwise_conv_act_pool", "1x12x10x11")
    first = run(sample)
    assert all(torch.equal(a, b) for a, b in zip(run(sample), first, strict=True))
