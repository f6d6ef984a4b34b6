"""Gradients through the folded ops: the kernel forward, the decomposition backward."""

import pytest
import torch

import effops
from effops.testing import samples

GRADIENTS = [s for s in samples() if 0 < s.args[0].numel() < 6_000]


def gradients(sample, dtype):
    leaves = []

    def leaf(name, t):
        leaves.append(t.detach().clone().requires_grad_())
        return leaves[-1]

    outputs = sample.to(dtype).map(leaf).run()
    g = torch.Generator().manual_seed(0)
    weights = [torch.randn(o.shape, generator=g).to(o.dtype) for o in outputs]
    return torch.autograd.grad(outputs, leaves, weights)


@pytest.mark.parametrize("sample", GRADIENTS, ids=str)
def test_gradients_match_float64(sample):
    with effops.backend("cpu"):
        actual = gradients(sample, torch.float32)
    with effops.backend("reference"):
        exact = gradients(sample, torch.float64)
    for a, e in zip(actual, exact, strict=True):
        torch.testing.assert_close(a.double(), e, rtol=1e-4, atol=1e-4)


def test_only_what_needs_a_gradient_gets_one():
    x, weight = torch.randn(1, 4, 5, 5), torch.randn(4, 1, 3, 3, requires_grad=True)
    effops.ops.depthwise_conv_act(x, weight, act="silu").sum().backward()
    assert x.grad is None and weight.grad.shape == weight.shape


def test_expanded_gradient_of_a_sum():
    """sum() hands back a gradient with stride 0 everywhere."""
    x = torch.randn(2, 4, 5, 5, requires_grad=True)
    weight = torch.randn(3, 4, 1, 1)
    effops.ops.pointwise_conv_act(x, weight).sum().backward()
    torch.testing.assert_close(x.grad, weight.sum(0).view(1, 4, 1, 1).expand_as(x))


def test_double_backward():
    x = torch.randn(1, 2, 4, 4, requires_grad=True)
    weight = torch.randn(2, 1, 3, 3, requires_grad=True)

    def penalty(run):
        (grad,) = torch.autograd.grad(run(x, weight, padding=1, act="silu").sum(), x, create_graph=True)
        return torch.autograd.grad(grad.square().sum(), (x, weight))

    actual = penalty(effops.ops.depthwise_conv_act)
    with effops.backend("reference"):
        expected = penalty(effops.ops.depthwise_conv_act)
    for a, e in zip(actual, expected, strict=True):
        torch.testing.assert_close(a, e, rtol=1e-4, atol=1e-5)


def test_no_graph_without_need():
    x, weight = torch.randn(1, 4, 5, 5), torch.randn(4, 1, 3, 3, requires_grad=True)
    with torch.no_grad():
        assert not effops.ops.depthwise_conv_act(x, weight).requires_grad
    assert not effops.ops.depthwise_conv_act(x, weight.detach()).requires_grad
