"""The passes of batch norm in CUDA, where samples do not reach."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from effops.ops.spec import ACTIVATIONS
from effops.ops.table import OPS
from effops.testing import KernelSample

from .calls import check, run


def sample(op, *args):
    return KernelSample(OPS[op], "", args)


def affine_of(c):
    return torch.stack([torch.randn(c), torch.rand(c) + 0.5, torch.randn(c)])


@settings(max_examples=40, deadline=None)
@given(
    n=st.integers(0, 3),
    c=st.one_of(st.integers(1, 72), st.integers(130, 300)),  # two slabs from 129 (float32) or 257 channels on
    size=st.tuples(st.integers(1, 24), st.integers(1, 24)),
    present=st.tuples(*[st.booleans()] * 5),
    act=st.integers(0, len(ACTIVATIONS) - 1),
    dtype=st.sampled_from([torch.float32, torch.bfloat16, torch.float16]),
    order=st.sampled_from(["forward", "reverse", "shuffled"]),
)
def test_any_shape(host, n, c, size, present, act, dtype, order):
    host.set_order(order)
    x, grad, residual = (torch.randn(n, c, *size) for _ in range(3))
    affine, coef = affine_of(c), torch.cat([affine_of(c), torch.randn(2, c)])
    optional = (torch.rand(n, c), residual, torch.randn(n, c), coef, affine)
    gate, residual, pool_grad, coef, sums_affine = (
        t if there else None for t, there in zip(optional, present, strict=True)
    )
    calls = (
        sample("batch_norm_stats", x),
        sample("batch_norm_apply", x, affine, gate, residual, act),
        sample("batch_norm_pool", x, affine, act),
        sample("batch_norm_apply_pool", x, affine, act),
        sample("batch_norm_grad_sums", grad, x, sums_affine, act),
        sample("batch_norm_grad_apply", grad, x if coef is not None else None, coef, gate, pool_grad, act),
    )
    for call in calls:
        check(call.to(dtype))


@pytest.mark.parametrize("act", range(len(ACTIVATIONS)), ids=ACTIVATIONS)
def test_nan_and_infinity_pass_through(host, act):
    x = torch.zeros(1, 8, 1, 2)
    x[..., 0], x[..., 1] = float("nan"), float("inf")
    plain = torch.tensor([0.0, 1.0, 0.0])[:, None].expand(3, 8)
    y, pooled = run(sample("batch_norm_apply_pool", x, plain, act))
    assert y[..., 0].isnan().all() and pooled.isnan().all()
    assert (y[..., 1] == (6 if ACTIVATIONS[act] == "relu6" else float("inf"))).all()
    assert run(sample("batch_norm_stats", x))[0].isnan().all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16], ids=str)
def test_statistics_far_from_zero(host, dtype):
    """A mean of many deviations: sums of squares would have nothing left."""
    x = (torch.randn(4, 16, 20, 20) + (1e4 if dtype == torch.float32 else 1e3)).to(dtype)
    mean, variance = run(sample("batch_norm_stats", x))[0]
    exact = x.double().var((0, 2, 3), correction=0)
    assert ((variance - exact).abs() / exact).max() < 1e-4
    assert ((mean - x.double().mean((0, 2, 3))).abs()).max() < 2e-3


def test_statistics_of_what_does_not_vary(host):
    x = (torch.arange(24.0) * 1e5)[None, :, None, None].expand(2, 24, 9, 9)
    mean, variance = run(sample("batch_norm_stats", x))[0]
    assert torch.equal(mean, x[0, :, 0, 0]) and not variance.any()


def test_images_without_pixels(host):
    x, affine = torch.zeros(2, 8, 0, 3), affine_of(8)
    for call in (
        sample("batch_norm_stats", x),
        sample("batch_norm_apply_pool", x, affine, 1),
        sample("batch_norm_grad_sums", x, x, affine, 1),
        sample("batch_norm_grad_apply", x, None, None, None, None, 0),
    ):
        check(call)
