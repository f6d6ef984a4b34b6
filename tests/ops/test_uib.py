"""The universal inverted bottleneck against plain convolutions in float64, in all of its forms."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

import effops
from effops import ops
from effops.nn import UniversalInvertedResidual, units
from effops.ops import backends
from effops.ops.shape import pad_before_after
from effops.ops.spec import SAME
from effops.testing import assert_as_good_as_eager

ACTS = {"relu": F.relu, "gelu": F.gelu, "hardswish": F.hardswish, "silu": F.silu}


def folded(shape, seed, bias=True):
    g = torch.Generator().manual_seed(seed)
    fan = shape[1] * shape[2] * shape[3]
    return torch.randn(shape, generator=g) / fan**0.5, torch.randn(shape[0], generator=g) if bias else None


def layers(c, hidden, out, start, middle):
    """Weights and biases; a kernel size of 0 for none."""
    return (
        folded((c, 1, start, start), 1) if start else None,
        folded((hidden, c, 1, 1), 2, bias=out % 2 == 0),
        folded((hidden, 1, middle, middle), 3) if middle else None,
        folded((out, hidden, 1, 1), 4),
    )


def to(given, dtype):
    return [None if pair is None else tuple(t if t is None else t.to(dtype) for t in pair) for pair in given]


def by_formula(x, start, expand, middle, project, *, stride=1, padding=None, act="relu", residual=False):
    def depthwise(y, weight, bias, stride):
        zeros = [(k // 2, k // 2) for k in weight.shape[2:]]
        if padding == "same":
            zeros = [pad_before_after(y.shape[2 + i], weight.shape[2 + i], stride, SAME, 1) for i in (0, 1)]
        return F.conv2d(F.pad(y, (*zeros[1], *zeros[0])), weight, bias, stride, groups=y.shape[1])

    y = x if start is None else depthwise(x, *start, 1 if middle else stride)
    y = ACTS[act](F.conv2d(y, *expand))
    y = y if middle is None else ACTS[act](depthwise(y, *middle, stride))
    y = F.conv2d(y, *project)
    return y + x if residual else y


CASES = {
    "extra depthwise": ((2, 8, 14, 13), (24, 8, 3, 5), {"residual": True, "act": "gelu"}),
    "extra depthwise, stride": ((2, 12, 15, 16), (48, 20, 5, 3), {"stride": 2, "padding": "same"}),
    "extra depthwise, large": ((1, 8, 66, 70), (96, 9, 3, 5), {"stride": 2, "act": "silu"}),
    "inverted bottleneck": ((2, 13, 7, 9), (31, 13, 0, 5), {"residual": True, "act": "hardswish"}),
    "inverted bottleneck, stride": ((1, 6, 9, 8), (24, 7, 0, 3), {"stride": 2, "padding": "same"}),
    "convnext": ((2, 16, 8, 8), (64, 16, 7, 0), {"residual": True, "act": "gelu"}),
    "convnext, stride": ((1, 16, 9, 10), (32, 24, 5, 0), {"stride": 2}),
    "feed-forward": ((2, 9, 5, 6), (33, 9, 0, 0), {"residual": True}),
    "no images": ((0, 8, 6, 6), (16, 8, 3, 3), {"residual": True}),
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("case", CASES)
def test_parity(isa, case, dtype):
    shape, sizes, kwargs = CASES[case]
    x, given = (
        torch.randn(shape, generator=torch.Generator().manual_seed(5)).to(dtype),
        to(layers(shape[1], *sizes), dtype),
    )
    exact = by_formula(x.double(), *to(given, torch.float64), **kwargs)
    y = ops.uib(x, *given, **kwargs)
    assert_as_good_as_eager(y, by_formula(x, *given, **kwargs), exact, what=case)
    assert y.is_contiguous(memory_format=torch.channels_last)


def test_gradients():
    shape, sizes, kwargs = CASES["extra depthwise"]
    given = to(layers(shape[1], *sizes), torch.float64)
    leaves = [t.requires_grad_() for t in (torch.randn(shape).double(), *(t for pair in given for t in pair))]
    actual, expected = (run(leaves[0], *given, **kwargs) for run in (ops.uib, by_formula))
    for a, e in zip(*(torch.autograd.grad(y.square().sum(), leaves) for y in (actual, expected)), strict=True):
        torch.testing.assert_close(a, e)


def names_of(run):
    with torch.no_grad(), backends.recording() as calls:
        run()
    return [call.op.name for call in calls]


def test_which_rows_run():
    shape, sizes, _ = CASES["extra depthwise"]
    x, given = torch.randn(shape), layers(shape[1], *sizes)
    assert names_of(lambda: ops.uib(x, *given)) == ["depthwise_conv_act", "mbconv"]
    assert names_of(lambda: ops.uib(x, None, *given[1:], residual=True)) == ["mbconv"]
    # What mbconv adds is its own input, which is not x behind a start.
    parts = ["depthwise_conv_act", "pointwise_conv_act", "depthwise_conv_act", "pointwise_conv_act"]
    assert names_of(lambda: ops.uib(x, *given, residual=True)) == parts


@pytest.mark.parametrize("residual", [True, False])
def test_the_module_runs_what_the_op_runs(residual, monkeypatch):
    torch.manual_seed(0)
    module = UniversalInvertedResidual(8, 24, 8, start_kernel_size=3, mid_kernel_size=5, residual=residual).eval()
    x = torch.randn(2, 8, 9, 9)
    blocks = []
    monkeypatch.setattr(units, "mbconv", lambda *args, **kwargs: blocks.append(kwargs) or ops.mbconv(*args, **kwargs))
    # With fresh statistics every batch norm is a factor.
    convs = (part.conv for part in (module.dw_start, module.pw_exp, module.dw_mid, module.pw_proj))
    given = [(conv.weight.detach() / (1 + 1e-5) ** 0.5, None) for conv in convs]
    with torch.no_grad():
        torch.testing.assert_close(module(x), ops.uib(x, *given, residual=residual), rtol=1e-5, atol=1e-6)
    assert len(blocks) == (0 if residual else 1)


X = torch.randn(1, 8, 6, 6)
START, EXPAND, MIDDLE, PROJECT = layers(8, 16, 8, 3, 5)

WRONG = {
    "image": ((X[0], START, EXPAND, MIDDLE, PROJECT), {}, r"x must have 4 dimensions .* got shape \(8, 6, 6\)"),
    "start": ((X, (START[0][:7], None), EXPAND, MIDDLE, PROJECT), {}, r"start weight must have shape \(8, 1, kh, kw\)"),
    "expand": ((X, START, (EXPAND[0][:, :7], None), MIDDLE, PROJECT), {}, r"expand weight must have .*\(hidden, 8\)"),
    "no expand": ((X, START, None, MIDDLE, PROJECT), {}, r"expand weight must be a torch.Tensor; got NoneType"),
    "middle": ((X, START, EXPAND, START, PROJECT), {}, r"middle weight must have shape \(16, 1, kh, kw\)"),
    "project": ((X, START, EXPAND, MIDDLE, EXPAND), {}, r"project weight must have shape \(out_channels, 16\)"),
    "bias": ((X, START, EXPAND, (MIDDLE[0], torch.zeros(5)), PROJECT), {}, r"middle bias must have shape \(16,\)"),
    "dtype": ((X.bfloat16(), START, EXPAND, MIDDLE, PROJECT), {}, "start weight must be torch.bfloat16"),
    "pair": ((X, START[0], EXPAND, MIDDLE, PROJECT), {}, "start must be a pair"),
    "stride": ((X, None, EXPAND, None, PROJECT), {"stride": 2}, r"stride \(2, 2\) needs a depthwise convolution"),
    "residual": (
        (X, START, EXPAND, MIDDLE, PROJECT),
        {"stride": 2, "residual": True},
        r"residual needs an output of x's shape \(1, 8, 6, 6\); this block gives \(1, 8, 3, 3\)",
    ),
    "empty": ((X, START, EXPAND, folded((16, 1, 9, 9), 0), PROJECT), {"padding": 0}, "the output would be empty"),
    "act": ((X, START, EXPAND, MIDDLE, PROJECT), {"act": "swish"}, "act must be one of"),
}


@pytest.mark.parametrize("case", WRONG)
def test_bad_arguments(case):
    args, kwargs, message = WRONG[case]
    with pytest.raises(effops.ArgumentError, match=message):
        ops.uib(*args, **kwargs)
