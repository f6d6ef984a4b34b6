"""Every CPU kernel, on every instruction set, in every dtype and layout, against the float64 reference."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import effops
from effops.ops import extension
from effops.ops.spec import ACTIVATIONS
from effops.testing import Sample, assert_as_good_as_eager, samples

from .layouts import LAYOUTS

SAMPLES = list(samples())


def expected(sample, dtype):
    """Plain torch in the dtype, and in float64 on the values rounded to it."""
    with effops.backend("reference"):
        return sample.to(dtype).run(), sample.to(dtype).to(torch.float64).run()


def check(sample, dtype):
    eager, exact = expected(sample, dtype)
    actual = sample.to(dtype).run()
    scale = exact[0].abs().max().item() if exact[0].numel() else 0.0
    for i, outputs in enumerate(zip(actual, eager, exact, strict=True)):
        assert_as_good_as_eager(*outputs, what=f"{sample} output {i}", scale=scale)
        if outputs[0].dim() == 4:
            assert outputs[0].is_contiguous(memory_format=torch.channels_last)


def test_extension_is_built():
    assert extension.load_error is None, extension.load_error
    assert "scalar" in extension.module.available_isas()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("sample", SAMPLES, ids=str)
def test_parity(isa, sample, dtype):
    check(sample, dtype)


# One sample an op and variant is enough here: the layout is undone before the kernel, or read by its strides.
ONE_OF_EACH = [
    next(s for s in samples("conv_act")),
    *(s for s in samples("depthwise_conv_act") if s.name.startswith("3x13x17x5")),
    *(s for s in samples("pointwise_conv_act") if s.name.startswith("2x13x5x7")),
    *(s for s in samples("se_gate") if s.args[0].shape == (2, 13)),
    *(s for s in samples("squeeze_excite") if s.args[0].shape[:2] == (2, 13)),
    *(s for s in samples("mbconv") if s.args[0].shape[1] in (13, 17)),
    *(s for s in samples("fused_mbconv") if s.args[0].shape[1] in (13, 17)),
]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("sample", ONE_OF_EACH, ids=str)
def test_layouts(isa, sample, layout, dtype):
    laid = sample.to(dtype).map(lambda name, t: LAYOUTS[layout](t) if t.dim() > 1 else t)
    with effops.backend("reference"):
        eager, exact = laid.run(), laid.to(torch.float64).run()
    for i, outputs in enumerate(zip(laid.run(), eager, exact, strict=True)):
        assert_as_good_as_eager(*outputs, what=f"{sample} as {layout}, output {i}")


@pytest.mark.parametrize("sample", ONE_OF_EACH, ids=str)
def test_strided_bias(isa, sample):
    strided = sample.map(lambda name, t: torch.stack([t, t], 1)[:, 0] if t.dim() == 1 else t)
    assert all(torch.equal(a, b) for a, b in zip(strided.run(), sample.run(), strict=True))


@pytest.mark.parametrize("sample", SAMPLES, ids=str)
def test_kernel_layout_changes_nothing(isa, sample):
    laid = sample.map(lambda name, t: effops.ops.kernel_layout(t) if t.dim() == 4 and name != "x" else t)
    assert all(torch.equal(a, b) for a, b in zip(laid.run(), sample.run(), strict=True))


def test_float32_bias_beside_bfloat16(isa):
    x, weight = torch.randn(1, 8, 5, 5).bfloat16(), torch.randn(8, 1, 3, 3).bfloat16()
    bias = torch.tensor([1 + 2**-12] * 8)
    y = effops.ops.depthwise_conv_act(torch.zeros_like(x), weight, bias, padding=1)
    assert torch.equal(y, torch.ones_like(y))
    y = effops.ops.depthwise_conv_act(x, weight, bias, padding=1)
    rounded = effops.ops.depthwise_conv_act(x, weight, bias.bfloat16(), padding=1)
    assert (y.float() - rounded.float()).abs().max() < 0.1


@pytest.mark.parametrize("act", ACTIVATIONS)
def test_nan_and_infinity_pass_through(isa, act):
    x = torch.zeros(1, 8, 1, 3)
    x[0, :, 0, 0], x[0, :, 0, 1] = float("nan"), float("inf")
    weight = torch.eye(8)[:, :, None, None]
    with effops.backend("reference"):
        want = effops.ops.pointwise_conv_act(x[..., :1], weight, act=act)
    y = effops.ops.pointwise_conv_act(x[..., :1], weight, act=act)
    assert want.isnan().all() and y.isnan().all()
    y = effops.ops.depthwise_conv_act(x[..., 1:2], torch.ones(8, 1, 1, 1), act=act)
    assert (y == (6 if act == "relu6" else float("inf"))).all()


def test_bitwise_repeatable_and_independent_of_threads(isa):
    before = torch.get_num_threads()
    try:
        for sample in ONE_OF_EACH + [s for s in SAMPLES if "1152" in s.name]:
            runs = []
            for threads in (1, 2, 3, 1, 2, 3, 1, 2, 3, 1):
                torch.set_num_threads(threads)
                runs.append(sample.run())
            assert all(torch.equal(a, b) for run in runs for a, b in zip(run, runs[0], strict=True)), sample
    finally:
        torch.set_num_threads(before)


@settings(max_examples=60, deadline=None)
@given(
    n=st.integers(0, 3),
    c=st.integers(1, 40),
    size=st.tuples(st.integers(1, 20), st.integers(1, 20)),
    kernel=st.integers(1, 7),
    stride=st.integers(1, 3),
    dilation=st.integers(1, 2),
    same=st.booleans(),
    act=st.sampled_from(ACTIVATIONS),
    dtype=st.sampled_from([torch.float32, torch.bfloat16]),
)
def test_depthwise_of_any_shape(n, c, size, kernel, stride, dilation, same, act, dtype):
    padding = "same" if same else dilation * (kernel - 1) // 2 + 1
    args = (torch.randn(n, c, *size), torch.randn(c, 1, kernel, kernel), torch.randn(c))
    kwargs = {"stride": stride, "padding": padding, "dilation": dilation, "act": act, "pool": True}
    with effops.backend("cpu"):
        check(Sample("depthwise_conv_act", "any", args, kwargs), dtype)


@settings(max_examples=60, deadline=None)
@given(
    n=st.integers(0, 3),
    c=st.integers(1, 150),
    out=st.integers(1, 80),
    size=st.tuples(st.integers(1, 9), st.integers(1, 9)),
    gated=st.booleans(),
    residual=st.booleans(),
    act=st.sampled_from(ACTIVATIONS),
    dtype=st.sampled_from([torch.float32, torch.bfloat16]),
)
def test_pointwise_of_any_shape(n, c, out, size, gated, residual, act, dtype):
    args = (torch.randn(n, c, *size), torch.randn(out, c, 1, 1) / c**0.5, torch.randn(out))
    kwargs = {
        "act": act,
        "gate": torch.rand(n, c) if gated else None,
        "residual": torch.randn(n, out, *size) if residual else None,
    }
    with effops.backend("cpu"):
        check(Sample("pointwise_conv_act", "any", args, kwargs), dtype)


def test_offsets_beyond_32_bits(isa):
    """The last image of a batch whose images lie 2^31 elements apart; pages in between are never touched."""
    far = 2**31 + 64
    storage = torch.empty(far + 3 * 8 * 8, dtype=torch.bfloat16)
    images = storage.as_strided((2, 3, 8, 8), (far, 64, 8, 1))
    images.copy_(torch.randn(2, 3, 8, 8))
    weight = torch.randn(8, 3, 3, 3).bfloat16()
    y = effops.ops.conv_act(images, weight, padding=1)
    assert torch.equal(y, effops.ops.conv_act(images.clone(), weight, padding=1))
