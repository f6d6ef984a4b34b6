"""Whole blocks as one op: bit for bit what their parts give, whatever the cut and the number of threads."""

from __future__ import annotations

import pytest
import torch

import effops
from effops import ops
from effops.ops import backends, extension
from effops.ops.spec import ACTIVATIONS, SAME
from effops.testing import samples

from .blocks import fused
from .layouts import LAYOUTS

BLOCKS = list(samples("mbconv"))
FUSED = list(samples("fused_mbconv"))
# Large enough for several tiles a thread.
LARGE_FUSED = [
    fused(2, 8, (70, 61), 120, 8),
    fused(1, 6, (131, 120), 260, 9, stride=2, pad=SAME, project_act=ACTIVATIONS.index("relu6")),
    fused(3, 5, (110, 20), 140, 5, pad=2, dilation=2, act=ACTIVATIONS.index("gelu"), biases=False),
    fused(1, 3, (64, 62), 260, 7, kernel=5, pad=0, act=ACTIVATIONS.index("hardswish")),
]


def recorded(sample) -> list[str]:
    """The steps that a plan makes of a call."""
    plan = extension.module.Plan(extension.module.WeightStore())
    plan.start()
    try:
        sample.run()
    finally:
        plan.stop()
    return plan.steps


@pytest.fixture
def threads():
    """torch.set_num_threads, undone in the end."""
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("sample", LARGE_FUSED, ids=str)
def test_a_fused_block_depth_first_equals_its_parts(isa, sample, dtype, threads):
    """Bit for bit, on images of any layout."""
    laid = sample.to(dtype)
    x, weight, bias, *geometry, project, project_bias, residual, act, project_act = laid.args
    y = torch.ops.effops.conv_act(x, weight, bias, *geometry, act)
    added = x if residual else None
    parts = torch.ops.effops.pointwise_conv_act(y, project, project_bias, None, added, project_act)
    for count, layout in enumerate(("channels_last", "contiguous", "every_second"), 1):
        threads(count)
        run = laid.map(lambda name, t, lay=LAYOUTS[layout]: lay(t) if name == "x" else t)
        assert torch.equal(run.run()[0], parts)
        assert recorded(run) == ["fused_mbconv"]


def test_a_fused_block_of_few_rows_runs_as_its_parts(threads):
    sample = fused(1, 8, (7, 20), 48, 8)
    for count, steps in ((1, ["fused_mbconv"]), (2, ["dense", "pointwise"])):
        threads(count)
        assert recorded(sample) == steps


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("sample", BLOCKS + FUSED, ids=str)
def test_a_block_equals_its_parts(isa, sample, dtype, threads, monkeypatch):
    laid = sample.to(dtype)
    runs = []
    for count in (1, 2, 3):
        threads(count)
        runs += laid.run()
    monkeypatch.setattr(backends, "_whole", lambda op, args: None)
    (parts,) = laid.run()
    assert all(torch.equal(run, parts) for run in runs)


@pytest.mark.parametrize("sample", BLOCKS[:6] + LARGE_FUSED, ids=str)
def test_neighbours_of_the_inputs_are_never_read(isa, sample):
    def guarded(name, t):
        dense = t.contiguous(memory_format=torch.channels_last) if t.dim() == 4 else t.contiguous()
        buffer = torch.full((t.numel() + 128,), float("nan"))
        return buffer[64 : 64 + t.numel()].as_strided(t.shape, dense.stride(), 64).copy_(dense)

    assert torch.equal(sample.map(guarded).run()[0], sample.run()[0])


def test_gradients_are_those_of_the_parts():
    sample = next(s for s in BLOCKS if "squeeze_excite" in s.kwargs)
    leaves = []

    def leaf(name, t):
        leaves.append(t.detach().clone().requires_grad_())
        return leaves[-1]

    (y,) = sample.map(leaf).run()
    actual = torch.autograd.grad(y.square().sum(), leaves)
    leaves.clear()
    with effops.backend("reference"):
        (y,) = sample.to(torch.float64).map(leaf).run()
    for a, e in zip(actual, torch.autograd.grad(y.square().sum(), leaves), strict=True):
        assert (a - e).norm() <= 1e-5 * e.norm()


def test_explain_and_backends():
    sample = BLOCKS[0]
    found = effops.explain("mbconv", *sample.args, **sample.kwargs)
    assert found.op == "mbconv" and found.backend == "cpu"
    (y,) = sample.run()
    args = [x.requires_grad_() if isinstance(x, torch.Tensor) else x for x in sample.map(lambda _, t: t.clone()).args]
    parts = effops.explain("mbconv", *args, **sample.kwargs)
    assert parts.op == "mbconv" and parts.backend == "cpu"
    with effops.backend("reference"):
        torch.testing.assert_close(sample.run()[0], y, rtol=1e-4, atol=1e-4)
    assert sample.to(torch.float16).run()[0].dtype == torch.float16


def test_gradients_of_a_fused_block_are_those_of_its_parts():
    """Bit for bit, and the result too."""
    sample = next(s for s in FUSED if s.kwargs["residual"])
    x, (weight, bias), (project, project_bias) = sample.args
    geometry = {name: sample.kwargs[name] for name in ("stride", "padding", "dilation")}

    def parts(x):
        y = ops.conv_act(x, weight, bias, act=sample.kwargs["act"], **geometry)
        act = sample.kwargs.get("project_act", "identity")
        return ops.pointwise_conv_act(y, project, project_bias, act=act, residual=x)

    leaves = [x.clone().requires_grad_() for _ in range(2)]
    y, expected = ops.fused_mbconv(leaves[0], *sample.args[1:], **sample.kwargs), parts(leaves[1])
    assert torch.equal(y, expected)
    assert torch.equal(
        *(torch.autograd.grad(y.square().sum(), leaf)[0] for y, leaf in zip((y, expected), leaves, strict=True))
    )
    assert effops.explain("fused_mbconv", *sample.args, **sample.kwargs).backend == "cpu"


def test_bad_arguments_of_a_fused_block():
    expand, project = (torch.randn(16, 8, 3, 3), None), (torch.randn(9, 16, 1, 1), None)
    with pytest.raises(effops.ArgumentError, match=r"residual needs an output of x's shape \(1, 8, 6, 6\)"):
        ops.fused_mbconv(X, expand, project, padding=1, residual=True)
    with pytest.raises(effops.ArgumentError, match=r"expand weight must be a torch\.Tensor"):
        ops.fused_mbconv(X, (None, None), project)
    with pytest.raises(effops.ArgumentError, match=r"project weight must have shape .*, 16\)"):
        ops.fused_mbconv(X, expand, (torch.randn(9, 15, 1, 1), None))


@pytest.mark.parametrize("dynamic", [False, True])
def test_compiles_whole(dynamic):
    sample = BLOCKS[2]

    def run(x):
        return ops.mbconv(x, *sample.args[1:], **sample.kwargs)

    torch._dynamo.reset()
    compiled = torch.compile(run, fullgraph=True, dynamic=dynamic, backend="aot_eager")
    with torch.no_grad():
        assert torch.equal(compiled(sample.args[0]), run(sample.args[0]))


X, EXPAND, DEPTHWISE = torch.randn(1, 8, 6, 6), (torch.randn(16, 8, 1, 1), None), (torch.randn(16, 1, 3, 3), None)
PROJECT = (torch.randn(8, 16, 1, 1), torch.zeros(8))

WRONG = {
    "expand": ((X, (EXPAND[0][:, :7], None), DEPTHWISE, PROJECT), {}, r"expand weight must have shape \(hidden, 8\)"),
    "depthwise": ((X, None, DEPTHWISE, PROJECT), {}, r"weight must have shape \(8, 1, kh, kw\)"),
    "no depthwise": ((X, EXPAND, (None, None), PROJECT), {}, "depthwise weight must be a torch.Tensor; got NoneType"),
    "project": ((X, EXPAND, DEPTHWISE, (PROJECT[0][:, :9], None)), {}, r"project weight must have shape .*, 16\)"),
    "bias": ((X, EXPAND, DEPTHWISE, (PROJECT[0], torch.zeros(5))), {}, r"project bias must have shape \(8,\)"),
    "residual": (
        (X, EXPAND, DEPTHWISE, PROJECT),
        {"residual": True},
        r"residual needs an output of x's shape \(1, 8, 6, 6\)",
    ),
    "dtype": ((X.bfloat16(), EXPAND, DEPTHWISE, PROJECT), {}, "expand weight must be torch.bfloat16"),
    "act": ((X, EXPAND, DEPTHWISE, PROJECT), {"act": "swish"}, "act must be one of"),
    "pair": ((X, EXPAND[0], DEPTHWISE, PROJECT), {}, "expand must be a pair"),
}


@pytest.mark.parametrize("case", WRONG)
def test_bad_arguments(case):
    args, kwargs, message = WRONG[case]
    with pytest.raises(effops.ArgumentError, match=message):
        ops.mbconv(*args, **kwargs)
