"""Chains on the training kernels: outputs, gradients and running statistics against plain torch."""

from __future__ import annotations

from dataclasses import fields, is_dataclass, replace
from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import effops
from effops.ops import BatchNorm, Layer, backends
from effops.ops.spec import ACTIVATIONS
from effops.ops.table import OPS
from effops.testing import assert_as_good_as_eager

from .chains import Case, cases

CASES = list(cases())


def named(name: str) -> Case:
    return next(case for case in CASES if case.name == name)


def check(case: Case, dtype: torch.dtype, slack: int = 4) -> None:
    """Hold a training step of the kernels to plain torch in the dtype and in float64."""
    parameters = torch.float32
    with effops.backend("reference"):
        eager = case.to(dtype, parameters).step()
        exact = case.to(dtype, parameters).to(torch.float64).step()
    with effops.backend("cpu"):
        actual = case.to(dtype, parameters).step()
    for what, value in actual.items():
        # A gradient that batch norm annuls is the rounding error of its terms: hold it to the size of all gradients.
        group = what.split()[0]
        scale = max(t.abs().max().item() for key, t in exact.items() if key.startswith(group) and t.numel())
        assert_as_good_as_eager(value, eager[what], exact[what], what=f"{case} {what}", scale=slack * scale)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_parity(isa, case, dtype):
    check(case, dtype)


# Two channels at least: batch norm takes away all that the weight of one does, and its gradient is 0 but for rounding.
@settings(max_examples=40, deadline=None)
@given(
    n=st.integers(1, 3),
    c=st.integers(2, 20),
    expanded=st.integers(2, 40),
    size=st.tuples(st.integers(2, 12), st.integers(2, 12)),
    kernel=st.sampled_from([1, 2, 3, 5, 7]),
    stride=st.integers(1, 3),
    same=st.booleans(),
    act=st.sampled_from(ACTIVATIONS),
    memory=st.sampled_from(["default", "low"]),
    seed=st.integers(0, 100),
)
def test_blocks_of_any_shape(n, c, expanded, size, kernel, stride, same, act, memory, seed):
    g = torch.Generator().manual_seed(seed)

    def norm(channels: int) -> BatchNorm:
        running = torch.zeros(channels), torch.ones(channels)
        # No channel is all but dead after ReLU: what is left of it would be the rounding of its largest pixel.
        bias = torch.rand(channels, generator=g) - 0.25
        return BatchNorm(torch.rand(channels, generator=g) + 0.5, bias, *running)

    padding = "same" if same else kernel // 2 + 1
    depthwise = torch.randn(expanded, 1, kernel, kernel, generator=g) / kernel
    layers = [
        Layer("pointwise", torch.randn(expanded, c, 1, 1, generator=g), norm(expanded), act=act),
        Layer("depthwise", depthwise, norm(expanded), stride=stride, padding=padding, act=act),
        Layer("pointwise", torch.randn(c, expanded, 1, 1, generator=g), norm(c)),
    ]
    # Enough pixels that no variance is a matter of rounding.
    x = torch.randn(n + 3, c, *(s + stride * 2 for s in size), generator=g)
    check(Case("any", x, layers, {"memory": memory}), torch.float32, slack=16)


@pytest.fixture
def on_references(monkeypatch):
    """The autograd function of the kernels on the table's references: its mathematics, in any dtype."""
    table = SimpleNamespace(**{name: op.reference for name, op in OPS.items()})
    monkeypatch.setattr(torch.ops, "effops_references", table, raising=False)
    chosen = replace(backends.BACKENDS["cpu"], run_chain=partial(backends._run_kernel_chain, "effops_references"))
    monkeypatch.setattr(backends, "choose", lambda rows, args: chosen)


def with_tensors(value: Any, given: dict[int, torch.Tensor]) -> Any:
    """A copy of a layer with other tensors in the place of these."""
    if isinstance(value, torch.Tensor):
        return given.get(id(value), value)
    if is_dataclass(value):
        return replace(value, **{f.name: with_tensors(getattr(value, f.name), given) for f in fields(value)})
    return value


def forward_with(case: Case, *tensors: torch.Tensor) -> tuple[torch.Tensor, ...]:
    given = dict(zip(map(id, case.parameters()), tensors, strict=True))
    layers = [with_tensors(layer, given) for layer in case.layers]
    return Case(case.name, given[id(case.x)], layers, case.kwargs).forward()


@pytest.mark.parametrize("case", CASES, ids=str)
def test_gradients_of_the_function_in_float64(on_references, case):
    """gradcheck, with a random direction instead of every entry: the chains have thousands."""
    case = case.to(torch.float64)
    inputs = case.parameters()
    # The kinks of relu, relu6 and hardswish make finite differences wrong where a value lies within a step of one.
    smooth = not any(layer.act in ("relu", "relu6", "hardswish") for layer in case.layers)
    tolerance = {"rtol": 1e-3, "atol": 1e-4} if smooth else {"rtol": 0.05, "atol": 0.05}
    assert torch.autograd.gradcheck(lambda *t: forward_with(case, *t), inputs, fast_mode=True, **tolerance)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_the_function_equals_the_reference_in_float64(on_references, monkeypatch, case):
    actual = case.to(torch.float64).step()
    monkeypatch.undo()
    # torch's own derivative of hardsigmoid holds 1 / 6 in float32, in every dtype.
    tolerance = 1e-6 if "hardswish" in case.name else 1e-9
    for what, expected in case.to(torch.float64).step().items():
        torch.testing.assert_close(actual[what], expected, rtol=tolerance, atol=tolerance, msg=what)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_bitwise_repeatable(case):
    """Ten times, forward and backward, under torch's flag that refuses what is not."""
    torch.use_deterministic_algorithms(True)
    try:
        first = case.to(torch.float32).step()
        for _ in range(9):
            again = case.to(torch.float32).step()
            assert all(torch.equal(again[key], value) for key, value in first.items())
    finally:
        torch.use_deterministic_algorithms(False)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_low_memory_changes_nothing(case):
    case.kwargs.pop("memory", None)
    default = case.to(torch.float32).step()
    low = Case(case.name, case.x, case.layers, {**case.kwargs, "memory": "low"}).to(torch.float32).step()
    assert all(torch.equal(low[key], value) for key, value in default.items())
