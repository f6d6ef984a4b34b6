"""The depthwise convolutions in CUDA, where samples do not reach."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from effops.ops.spec import ACTIVATIONS, SAME
from effops.ops.table import OPS
from effops.testing import KernelSample

from .calls import check, run


@settings(max_examples=40, deadline=None)
@given(
    n=st.integers(0, 3),
    c=st.integers(1, 72),
    size=st.tuples(st.integers(1, 20), st.integers(1, 20)),
    kernel=st.integers(1, 7),
    stride=st.integers(1, 3),
    dilation=st.integers(1, 2),
    same=st.booleans(),
    act=st.integers(0, len(ACTIVATIONS) - 1),
    dtype=st.sampled_from([torch.float32, torch.bfloat16, torch.float16]),
    order=st.sampled_from(["forward", "reverse", "shuffled"]),
)
def test_any_shape(host, n, c, size, kernel, stride, dilation, same, act, dtype, order):
    host.set_order(order)
    pad = SAME if same else dilation * (kernel - 1) // 2 + 1
    geometry = (stride, stride, pad, pad, dilation, dilation)
    x, weight, bias = torch.randn(n, c, *size), torch.randn(c, 1, kernel, kernel) / kernel, torch.randn(c)
    affine = torch.stack([torch.randn(c), torch.rand(c) + 0.5, torch.randn(c)])
    check(KernelSample(OPS["depthwise_conv_act_pool"], "any", (x, weight, bias, *geometry, act)).to(dtype))
    check(KernelSample(OPS["depthwise_conv_stats"], "any", (x, affine, weight, *geometry, act)).to(dtype))


@pytest.mark.parametrize("kernel", [3, 5, 4])
@pytest.mark.parametrize("stride", [1, 2])
def test_blocks_of_many_threads(order, kernel, stride):
    """A batch: in the samples most blocks are small (tests/cpp/test_heuristics.cpp has these sizes too)."""
    x, weight, bias = torch.randn(72, 40, 15, 15), torch.randn(40, 1, kernel, kernel) / kernel, torch.randn(40)
    geometry = (stride, stride, SAME, SAME, 1, 1)
    check(KernelSample(OPS["depthwise_conv_act_pool"], "batch", (x, weight, bias, *geometry, 3)).to(torch.bfloat16))
    check(KernelSample(OPS["depthwise_conv_stats"], "batch", (x, None, weight, *geometry, 0)))


def test_statistics_of_blocks_with_several_tiles(shuffled):
    x, weight = torch.randn(256, 640, 7, 7) + 1, torch.randn(640, 1, 3, 3) / 3
    check(KernelSample(OPS["depthwise_conv_stats"], "batch", (x, None, weight, 1, 1, 1, 1, 1, 1, 0)).to(torch.float16))


@pytest.mark.parametrize("act", range(len(ACTIVATIONS)), ids=ACTIVATIONS)
def test_nan_and_infinity_pass_through(host, act):
    x = torch.zeros(1, 8, 1, 2)
    x[..., 0], x[..., 1] = float("nan"), float("inf")
    y = run(KernelSample(OPS["depthwise_conv_act"], "", (x, torch.ones(8, 1, 1, 1), None, 1, 1, 0, 0, 1, 1, act)))[0]
    assert y[..., 0].isnan().all()
    assert (y[..., 1] == (6 if ACTIVATIONS[act] == "relu6" else float("inf"))).all()


def test_statistics_far_from_zero(host):
    """A mean of ten thousand deviations: sums of squares would have nothing left."""
    x = torch.randn(4, 16, 20, 20) + 1e4
    weight = torch.zeros(16, 1, 3, 3)
    weight[:, :, 1, 1] = 1
    call = KernelSample(OPS["depthwise_conv_stats"], "", (x, None, weight, 1, 1, 1, 1, 1, 1, 0))
    mean, variance = run(call)[1]
    exact = x.double().var((0, 2, 3), correction=0)
    assert ((variance - exact).abs() / exact).max() < 1e-4
    assert ((mean - x.double().mean((0, 2, 3))).abs()).max() < 2e-3


@pytest.mark.parametrize("layout", ["taps first", "strided"])
def test_weights_of_any_strides(host, layout):
    x, weight = torch.randn(2, 40, 9, 9), torch.randn(40, 1, 5, 5)
    other = weight.permute(2, 3, 0, 1).contiguous().permute(2, 3, 0, 1)
    if layout == "strided":
        other = torch.stack([weight, weight], -1)[..., 0]
    args = (None, 1, 1, 2, 2, 1, 1, 3)
    want, got = (run(KernelSample(OPS["depthwise_conv_act"], "", (x, w, *args)))[0] for w in (weight, other))
    assert torch.equal(want, got)
