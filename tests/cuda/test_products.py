"""The convolutions that are matrix products in CUDA, where samples do not reach."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from effops.ops.spec import ACTIVATIONS, SAME
from effops.ops.table import OPS
from effops.testing import KernelSample

from .calls import DTYPES, check, run

_GELU, _SILU, _HARDSWISH = (ACTIVATIONS.index(name) for name in ("gelu", "silu", "hardswish"))


def _calls(n, c, h, w, out, act=_SILU, u_act=_HARDSWISH):
    """One call of each row with everything that it takes."""
    x, weight, bias = torch.randn(n, c, h, w) + 0.5, torch.randn(out, c, 1, 1) / c**0.5, torch.randn(out)
    gate, affine = torch.rand(n, c), torch.stack([torch.randn(c), torch.rand(c) + 0.5, torch.randn(c)])
    grad, u, u_gate, pool_grad = (*torch.randn(2, n, out, h, w).unbind(), torch.rand(n, out), torch.randn(n, out))
    coef = torch.cat([torch.randn(1, out), torch.rand(1, out) + 0.5, torch.randn(1, out), 0.2 * torch.randn(2, out)])
    return {
        "act": KernelSample(OPS["pointwise_conv_act"], "", (x, weight, bias, gate, torch.randn(n, out, h, w), act)),
        "copied": KernelSample(OPS["pointwise_conv_act"], "", (x, weight, None, None, None, act)),
        "stats": KernelSample(OPS["pointwise_conv_stats"], "", (x, affine, gate, weight, act)),
        "plain stats": KernelSample(OPS["pointwise_conv_stats"], "", (x, None, None, weight, 0)),
        "backward": KernelSample(
            OPS["pointwise_conv_backward"],
            "",
            (grad, u, coef, u_gate, pool_grad, u_act, x, affine, gate, act, weight, True, True),
        ),
    }


_ALIGNED = (2, 72, 9, 8, 40)  # of whole 16 bytes: two tiles of an image, three stages of depth


@settings(max_examples=20, deadline=None)
@given(
    n=st.integers(0, 3),
    c=st.integers(1, 80),
    size=st.tuples(st.integers(1, 12), st.integers(1, 12)),
    out=st.integers(1, 80),
    acts=st.tuples(*2 * [st.integers(0, len(ACTIVATIONS) - 1)]),
    dtype=st.sampled_from(DTYPES),
    order=st.sampled_from(["forward", "reverse", "shuffled"]),
)
def test_any_shape(host, n, c, size, out, acts, dtype, order):
    host.set_order(order)
    for call in _calls(n, c, *size, out, *acts).values():
        check(call.to(dtype))


@settings(max_examples=30, deadline=None)
@given(
    n=st.integers(0, 2),
    c=st.integers(1, 9),
    size=st.tuples(st.integers(1, 20), st.integers(1, 20)),
    out=st.integers(1, 70),
    kernel=st.integers(1, 5),
    stride=st.integers(1, 3),
    dilation=st.integers(1, 2),
    same=st.booleans(),
    act=st.integers(0, len(ACTIVATIONS) - 1),
    dtype=st.sampled_from(DTYPES),
)
def test_any_dense_convolution(host, n, c, size, out, kernel, stride, dilation, same, act, dtype):
    pad = SAME if same else dilation * (kernel - 1) // 2 + 1
    weight = torch.randn(out, c, kernel, kernel) / kernel
    geometry = (stride, stride, pad, pad, dilation, dilation)
    check(
        KernelSample(OPS["conv_act"], "", (torch.randn(n, c, *size), weight, torch.randn(out), *geometry, act)).to(
            dtype
        )
    )


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("name", _calls(*_ALIGNED))
def test_aligned(host, name, dtype):
    """In every order the very same bits, with all inputs in the middle of NaN too."""

    def guarded(_, t):
        dense = t.contiguous(memory_format=torch.channels_last) if t.dim() == 4 else t.contiguous()
        buffer = torch.full((t.numel() + 128,), float("nan"), dtype=t.dtype)
        return buffer.as_strided(t.shape, dense.stride(), 64).copy_(dense)

    call = _calls(*_ALIGNED)[name].to(dtype)
    host.set_order("forward")
    host.violations()
    check(call)
    first = run(call)
    for order, seed in (("reverse", 1), ("shuffled", 2)):
        host.set_order(order, seed)
        for a, b in zip(run(call.map(guarded)), first, strict=True):
            assert torch.equal(a, b) and not a.isnan().any()
    assert host.violations() == 0


@pytest.mark.parametrize("layout", ["matrix", "transposed", "strided", "from 4 bytes on"])
def test_weights_of_any_strides(host, layout):
    x, weight = torch.randn(2, 40, 3, 3), torch.randn(24, 40)
    other = {
        "matrix": lambda w: w[:, :, None, None],
        "transposed": lambda w: w.T.contiguous().T,
        "strided": lambda w: torch.stack([w, w], -1)[..., 0],
        "from 4 bytes on": lambda w: torch.cat([torch.zeros(1), w.flatten()])[1:].view_as(w),
    }[layout](weight)
    calls = (KernelSample(OPS["pointwise_conv_act"], "", (x, w, None, None, None, _GELU)) for w in (weight, other))
    want, got = (run(call)[0] for call in calls)
    assert torch.equal(want, got)


def test_dense_weights_of_any_strides(host):
    x, weight = torch.randn(2, 8, 9, 7), torch.randn(24, 8, 3, 3)
    other = weight.contiguous(memory_format=torch.channels_last)
    calls = (KernelSample(OPS["conv_act"], "", (x, w, None, 1, 2, 1, 1, 1, 1, _GELU)) for w in (weight, other))
    want, got = (run(call)[0] for call in calls)
    assert torch.equal(want, got)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_nan_and_infinity_stay_in_their_pixel(host, dtype):
    x = torch.ones(1, 24, 5, 5)
    x[0, 3, 1, 2], x[0, 4, 3, 3] = float("nan"), float("inf")
    weight, affine = torch.ones(40, 24), torch.tensor([0.0, 1.0, 0.0])[:, None].repeat(1, 24)
    relu = ACTIVATIONS.index("relu")
    act = KernelSample(OPS["pointwise_conv_act"], "", (x, weight, None, torch.ones(1, 24), None, relu))
    stats = KernelSample(OPS["pointwise_conv_stats"], "", (x, affine, None, weight, relu))
    for call in (act, stats):
        y = run(call.to(dtype))[0]
        assert y[:, :, 1, 2].isnan().all() and (y[:, :, 3, 3] == float("inf")).all()
        assert y.isfinite().sum() == y.numel() - 2 * 40


def test_statistics_far_from_zero(host):
    """A mean of ten thousand deviations: sums of squares would have nothing left."""
    x = torch.randn(4, 16, 20, 20) + 1e4
    mean, variance = run(KernelSample(OPS["pointwise_conv_stats"], "", (x, None, None, torch.eye(16), 0)))[1]
    exact = x.double().var((0, 2, 3), correction=0)
    assert ((variance - exact).abs() / exact).max() < 1e-4
    assert ((mean - x.double().mean((0, 2, 3))).abs()).max() < 2e-3


@pytest.mark.slow
def test_statistics_over_several_tiles_of_a_block(host):
    """So many columns that a block goes on over further tiles of rows."""
    call = KernelSample(
        OPS["pointwise_conv_stats"], "", (torch.randn(1, 8, 32, 33), None, None, torch.randn(16400, 8), 0)
    )
    check(call)


@pytest.mark.parametrize("needs", [(True, False), (False, True), (False, False)])
def test_only_what_is_needed(host, needs):
    call = _calls(*_ALIGNED)["backward"]
    full, some = run(call), run(KernelSample(call.op, "", (*call.args[:-2], *needs)))
    for wanted, a, b in zip((needs[0], needs[1], needs[0]), full, some, strict=True):
        assert torch.equal(a, b) if wanted else b.numel() == 0
