"""Squeeze-excite in CUDA, where samples do not reach."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from effops.ops.spec import ACTIVATIONS, GATES
from effops.ops.table import OPS
from effops.testing import KernelSample

from .calls import DTYPES, check, run


def gate_calls(n, c, r, act, gate, biases=True):
    """The gate and its gradients on one set of weights."""
    weights = torch.randn(r, c) / c**0.5, torch.randn(r), torch.randn(c, r) / r**0.5, torch.randn(c)
    weights = tuple(t if biases or t.dim() == 2 else None for t in weights)
    pooled, grad, gated = torch.randn(n, c), torch.randn(n, c), torch.rand(n, c)
    return (
        KernelSample(OPS["se_gate"], "any", (pooled, *weights, act, gate)),
        KernelSample(OPS["se_gate_backward"], "any", (grad, gated, pooled, *weights, act, gate)),
    )


@settings(max_examples=40, deadline=None)
@given(
    n=st.integers(0, 5),
    c=st.integers(1, 120),
    r=st.one_of(st.integers(1, 40), st.sampled_from([48, 72, 160])),
    act=st.integers(0, len(ACTIVATIONS) - 1),
    gate=st.integers(0, len(GATES) - 1),
    biases=st.booleans(),
    dtype=st.sampled_from(DTYPES),
    order=st.sampled_from(["forward", "reverse", "shuffled"]),
)
def test_any_width(host, n, c, r, act, gate, biases, dtype, order):
    host.set_order(order)
    for call in gate_calls(n, c, r, act, gate, biases):
        check(call.to(dtype))


@pytest.mark.parametrize("c", [13, 24])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_large_batches(shuffled, dtype, c):
    """Blocks of four images, the last one not full."""
    for call in gate_calls(134, c, 8, 3, 0):
        check(call.to(dtype))


def test_the_batch_does_not_change_an_image(host):
    """Blocks of one image and of four compute the same bits."""
    call, _ = gate_calls(134, 40, 12, 3, 0)
    few = KernelSample(call.op, "few", (call.args[0][:5], *call.args[1:]))
    assert torch.equal(run(call)[0][:5], run(few)[0])


@pytest.mark.parametrize("shape", [(1, 4096, 8), (1, 8, 4500)])
def test_wider_than_a_block(shuffled, shape):
    for call in gate_calls(*shape, 3, 0):
        check(call)


def test_weights_of_several_dtypes(host):
    dtypes = dict(
        zip(
            ("reduce_weight", "reduce_bias", "expand_weight", "expand_bias"),
            (torch.float32, torch.float16, torch.bfloat16, torch.float32),
            strict=True,
        )
    )
    for call in gate_calls(3, 40, 16, 3, 1):
        check(call.map(lambda name, t: t.to(dtypes.get(name, t.dtype))))


def test_mean_of_an_image_in_several_parts(shuffled):
    x = torch.randn(2, 24, 40, 41)
    weights = torch.randn(6, 24), torch.randn(6), torch.randn(24, 6), torch.randn(24)
    check(KernelSample(OPS["squeeze_excite"], "parts", (x, *weights, None, 3, 0)))
