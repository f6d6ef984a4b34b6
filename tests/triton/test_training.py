"""Chains in training and gradients of the folded ops on Triton's kernels, in the interpreter, against plain torch."""

import re

import pytest
import torch

import effops
from effops.testing import assert_as_good_as_eager, samples
from tests.ops.chains import cases

CASES = {case.name: case for case in cases()}
BLOCK = "mbconv-se-silu-drop-path"


def hold(case, dtype, slack=4):
    """A training step of the kernels beside plain torch in the dtype and in float64."""
    with effops.backend("reference"):
        eager = case.to(dtype, torch.float32).step()
        exact = case.to(dtype, torch.float32).to(torch.float64).step()
    with effops.backend("triton"):
        actual = case.to(dtype, torch.float32).step()
    for what, value in actual.items():
        # A gradient that batch norm annuls is the rounding error of its terms: hold it to the size of all gradients.
        group = what.split()[0]
        scale = max(t.abs().max().item() for key, t in exact.items() if key.startswith(group) and t.numel())
        assert_as_good_as_eager(value, eager[what], exact[what], what=f"{case} {what}", scale=slack * scale)


@pytest.mark.parametrize("name", ["depthwise-pool", "batch-norm"])
def test_chains_in_float32(name):
    hold(CASES[name], torch.float32)


def test_a_block_in_16_bits():
    hold(CASES[BLOCK], torch.bfloat16)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("name", CASES)
def test_all_chains(name, dtype):
    hold(CASES[name], dtype)


# A small odd sample of every op and variant.
FOLDED = [
    s
    for s in samples()
    if re.match(r"(2x13x5x7|1x19x2x3|1x5x9x7|2x13x11x12)", s.name) and 0 < s.args[0].numel() < 6_000
]


def gradients(sample):
    leaves = []

    def leaf(name, t):
        leaves.append(t.detach().clone().requires_grad_())
        return leaves[-1]

    outputs = sample.map(leaf).run()
    g = torch.Generator().manual_seed(0)
    weights = [torch.randn(o.shape, generator=g).to(o.dtype) for o in outputs]
    return torch.autograd.grad(outputs, leaves, weights)


@pytest.mark.parametrize("sample", FOLDED, ids=str)
def test_gradients_of_folded_ops(sample):
    with effops.backend("triton"):
        actual = gradients(sample)
    with effops.backend("reference"):
        exact = gradients(sample.to(torch.float64))
    for a, e in zip(actual, exact, strict=True):
        torch.testing.assert_close(a.double(), e, rtol=1e-4, atol=1e-4)
