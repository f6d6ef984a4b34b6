"""The backward of the depthwise convolution in CUDA, where samples do not reach."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from effops.ops.shape import output_size
from effops.ops.spec import ACTIVATIONS, SAME
from effops.ops.table import OPS
from effops.testing import KernelSample

from .calls import check, run

ROW = OPS["depthwise_conv_backward"]


def call(n, c, size, kernel, stride, pad, dilation=1, act=3, u_act=2, plain=False, needs=(True, True)):
    """A call with everything that the op takes, or with nothing of it."""
    oh, ow = (output_size(s, kernel, stride, pad, dilation) for s in size)
    x, grad, u = torch.randn(n, c, *size), torch.randn(n, c, oh, ow), torch.randn(n, c, oh, ow)
    affine = torch.stack([torch.randn(c), torch.rand(c) + 0.5, torch.randn(c)])
    coef = torch.cat([affine.flip(1), 0.2 * torch.randn(2, c)])
    weight = torch.randn(c, 1, kernel, kernel) / kernel
    gradient = (
        (grad, None, None, None, None, 0) if plain else (grad, u, coef, torch.rand(n, c), torch.randn(n, c), u_act)
    )
    view = (x, None, 0) if plain else (x, affine, act)
    geometry = (stride, stride, pad, pad, dilation, dilation)
    return KernelSample(ROW, "any", (*gradient, *view, weight, *geometry, *needs))


@settings(max_examples=25, deadline=None)
@given(
    n=st.integers(0, 3),
    c=st.integers(1, 72),
    size=st.tuples(st.integers(1, 20), st.integers(1, 20)),
    kernel=st.sampled_from([1, 2, 3, 3, 4, 5, 5, 7]),
    stride=st.integers(1, 3),
    dilation=st.sampled_from([1, 1, 1, 2]),
    same=st.booleans(),
    act=st.integers(0, len(ACTIVATIONS) - 1),
    plain=st.booleans(),
    dtype=st.sampled_from([torch.float32, torch.bfloat16, torch.float16]),
    order=st.sampled_from(["forward", "reverse", "shuffled"]),
)
def test_any_shape(host, n, c, size, kernel, stride, dilation, same, act, plain, dtype, order):
    host.set_order(order)
    pad = SAME if same else dilation * (kernel - 1) // 2 + 1
    u_act = (act + 2) % len(ACTIVATIONS)
    check(call(n, c, size, kernel, stride, pad, dilation, act, u_act, plain).to(dtype))


@pytest.mark.parametrize("kernel", [3, 4, *(pytest.param(k, marks=pytest.mark.slow) for k in (5, 7))])
@pytest.mark.parametrize("stride", [1, 2])
def test_blocks_of_several_tiles(shuffled, kernel, stride):
    """Each block passes over tiles of several images (tests/cpp/test_heuristics.cpp has this size too)."""
    check(call(230, 320, (3, 3), kernel, stride, SAME).to(torch.bfloat16))


@pytest.mark.parametrize("kernel", [3, 5])
@pytest.mark.parametrize("stride", [1, 2])
def test_blocks_of_several_items(order, kernel, stride):
    check(call(6, 48, (31, 17), kernel, stride, kernel // 2).to(torch.float16))


@pytest.mark.parametrize("needs", [(True, False), (False, True), (False, False)])
@pytest.mark.parametrize("kernel", [3, 4])
def test_only_what_is_asked_for(shuffled, needs, kernel):
    """The others come back empty, and what is asked for has the same bits."""
    torch.manual_seed(0)
    everything = call(2, 24, (9, 11), kernel, 2, SAME)
    asked = KernelSample(ROW, "some", (*everything.args[:-2], *needs))
    wanted = (needs[0], needs[1], needs[0])
    for part, whole, need in zip(run(asked), run(everything), wanted, strict=True):
        assert torch.equal(part, whole) if need else part.numel() == 0


@pytest.mark.parametrize("kernel", [3, 4])
def test_outputs_are_as_the_fake_kernel_promises(host, kernel):
    for sample in (call(2, 24, (9, 11), kernel, 2, SAME), call(0, 8, (5, 5), kernel, 1, SAME).to(torch.bfloat16)):
        for actual, fake in zip(run(sample), ROW.fake(*sample.args), strict=True):
            assert (actual.shape, actual.dtype, actual.stride()) == (fake.shape, fake.dtype, fake.stride())


@pytest.mark.parametrize("kernel", [5, 4])
def test_weights_of_any_strides(host, kernel):
    sample = call(2, 40, (9, 9), kernel, 2, SAME)
    strided = sample.map(
        lambda name, t: t.permute(2, 3, 0, 1).contiguous().permute(2, 3, 0, 1) if name == "weight" else t
    )
    assert all(torch.equal(a, b) for a, b in zip(run(sample), run(strided), strict=True))


@pytest.mark.parametrize("kernel", [3, 4])
def test_nan_stays_in_its_channel_and_reach(host, kernel):
    sample = call(1, 8, (12, 12), kernel, 1, SAME)
    grad = sample.args[0]
    grad[0, 3, 6, 6] = float("nan")
    dx, dweight, _ = run(sample)
    assert dx[0, 3].isnan().sum() == kernel * kernel and dweight[3].isnan().all()
    others = [i for i in range(8) if i != 3]
    assert not dx[:, others].isnan().any() and not dweight[others].isnan().any()
