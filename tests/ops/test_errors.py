"""Bad arguments: each gives an ArgumentError that names the argument, what came and what was expected."""

from typing import Any

import pytest
import torch

import effops
from effops import ops

X = torch.randn(2, 8, 6, 6)
DEPTHWISE, POINTWISE = torch.randn(8, 1, 3, 3), torch.randn(4, 8, 1, 1)
POOLED, REDUCE, EXPAND = torch.randn(2, 8), torch.randn(2, 8), torch.randn(8, 2)
STATISTICS = torch.zeros(8), torch.ones(8)


def norm() -> ops.BatchNorm:
    return ops.BatchNorm(None, None, None, None)


def chain(*layers: ops.Layer, **kwargs: Any) -> Any:
    return ops.conv_bn_chain(X, layers, **kwargs)


CASES = {
    "x is no tensor": (lambda: ops.depthwise_conv_act([1], DEPTHWISE), "x must be a torch.Tensor; got list"),
    "x has 3 dimensions": (
        lambda: ops.depthwise_conv_act(X[0], DEPTHWISE),
        r"x must have 4 dimensions.*unsqueeze\(0\)",
    ),
    "x is integer": (
        lambda: ops.depthwise_conv_act(X.int(), DEPTHWISE),
        "x must be float32.*got torch.int32",
    ),
    "weight of other channels": (
        lambda: ops.depthwise_conv_act(X, DEPTHWISE[:5]),
        r"weight must have shape \(8, 1, kh, kw\) for an input with 8 channels; got \(5, 1, 3, 3\)",
    ),
    "dense weight in a depthwise op": (
        lambda: ops.depthwise_conv_act(X, torch.randn(8, 8, 3, 3)),
        r"weight must have shape \(8, 1",
    ),
    "no channels": (
        lambda: ops.conv_act(X[:, :0], torch.randn(4, 0, 3, 3)),
        r"x must have at least one channel; got shape \(2, 0, 6, 6\)",
    ),
    "a product without columns": (
        lambda: ops.pointwise_conv_act(X, POINTWISE[:0]),
        r"weight must have shape \(out_channels, 8\).*got \(0, 8, 1, 1\)",
    ),
    "weight of another dtype": (
        lambda: ops.depthwise_conv_act(X, DEPTHWISE.bfloat16()),
        "weight must be torch.float32.*got torch.bfloat16",
    ),
    "weight on another device": (
        lambda: ops.depthwise_conv_act(X, DEPTHWISE.to("meta")),
        r"weight must be on the device of x \(cpu\); got meta",
    ),
    "weight is no tensor": (lambda: ops.pointwise_conv_act(X, 3), "weight must be a torch.Tensor; got int"),
    "bias of the wrong length": (
        lambda: ops.depthwise_conv_act(X, DEPTHWISE, torch.zeros(7)),
        r"bias must have shape \(8,\).*got \(7,\)",
    ),
    "unknown activation": (
        lambda: ops.depthwise_conv_act(X, DEPTHWISE, act="swish"),
        "act must be one of identity, relu, relu6, silu, hardswish, gelu; got 'swish'",
    ),
    "activation is a function": (
        lambda: ops.pointwise_conv_act(X, POINTWISE, act=torch.relu),
        "act must be one of",
    ),
    "unknown padding": (lambda: ops.depthwise_conv_act(X, DEPTHWISE, padding="valid"), "padding must be an int"),
    "negative padding": (
        lambda: ops.depthwise_conv_act(X, DEPTHWISE, padding=-1),
        "padding must be at least 0",
    ),
    "stride 0": (lambda: ops.depthwise_conv_act(X, DEPTHWISE, stride=0), "stride must be at least 1"),
    "three strides": (
        lambda: ops.depthwise_conv_act(X, DEPTHWISE, stride=(1, 1, 1)),
        "stride must be an int or a pair",
    ),
    "fractional dilation": (
        lambda: ops.depthwise_conv_act(X, DEPTHWISE, dilation=1.5),
        "dilation must be an int",
    ),
    "empty output": (
        lambda: ops.depthwise_conv_act(X[..., :2], DEPTHWISE),
        "the output would be empty: x has width 2, the kernel reaches over 3",
    ),
    "pointwise weight 3x3": (
        lambda: ops.pointwise_conv_act(X, torch.randn(4, 8, 3, 3)),
        r"weight must have shape \(out_channels, 8\)",
    ),
    "gate of another shape": (
        lambda: ops.pointwise_conv_act(X, POINTWISE, gate=torch.ones(2, 9)),
        r"gate must have shape \(N, C\) = \(2, 8\); got \(2, 9\)",
    ),
    "gate in bfloat16": (
        lambda: ops.pointwise_conv_act(X, POINTWISE, gate=torch.ones(2, 8).bfloat16()),
        "gate must be torch.float32",
    ),
    "residual of another shape": (
        lambda: ops.pointwise_conv_act(X, POINTWISE, residual=X),
        r"residual must have the output's shape \(2, 4, 6, 6\); got \(2, 8, 6, 6\)",
    ),
    "pooled is an image": (
        lambda: ops.se_gate(X, REDUCE, None, EXPAND, None),
        r"pooled must be a tensor of shape \(N, C\)",
    ),
    "pooled in bfloat16": (
        lambda: ops.se_gate(POOLED.bfloat16(), REDUCE, None, EXPAND, None),
        "pooled must be float32",
    ),
    "expand weight transposed": (
        lambda: ops.se_gate(POOLED, REDUCE, None, EXPAND.t(), None),
        r"expand_weight must have shape \(8, 2\)",
    ),
    "unknown gate": (
        lambda: ops.se_gate(POOLED, REDUCE, None, EXPAND, None, gate="tanh"),
        "gate must be one of sigmoid, hardsigmoid; got 'tanh'",
    ),
    "reduce bias of the wrong length": (
        lambda: ops.squeeze_excite(X, REDUCE, torch.zeros(3), EXPAND, None),
        r"reduce_bias must have shape \(2,\)",
    ),
    "mean over no pixels": (
        lambda: ops.squeeze_excite(X[..., :0], REDUCE, None, EXPAND, None),
        "at least one pixel",
    ),
    "no layers": (
        lambda: ops.conv_bn_chain(X, []),
        r"layers must be a list of at least one effops.ops.Layer; got \[\]",
    ),
    "a weight for a layer": (
        lambda: ops.conv_bn_chain(X, [DEPTHWISE]),
        "layers must hold effops.ops.Layer alone; layer 0 is Tensor",
    ),
    "unknown convolution": (
        lambda: chain(ops.Layer("grouped", DEPTHWISE, norm())),
        "conv must be one of pointwise, depthwise, dense, none; got 'grouped'",
    ),
    "dense after the first": (
        lambda: chain(ops.Layer("none", None, norm()), ops.Layer("dense", torch.randn(4, 8, 3, 3), norm())),
        "conv must be one of pointwise, depthwise after the first layer; got 'dense'",
    ),
    "sample_scale of another batch": (
        lambda: chain(ops.Layer("none", None, norm()), sample_scale=torch.ones(3)),
        r"sample_scale must have shape \(2,\), one factor a sample; got \(3,\)",
    ),
    "sample_scale in bfloat16": (
        lambda: chain(ops.Layer("none", None, norm()), sample_scale=torch.ones(2).bfloat16()),
        "sample_scale must be torch.float32.*got torch.bfloat16",
    ),
    "x is no tensor, with batch norm": (
        lambda: ops.depthwise_conv_bn_act([1], DEPTHWISE, *STATISTICS),
        "x must be a torch.Tensor; got list",
    ),
    "no weight, with batch norm": (
        lambda: ops.depthwise_conv_bn_act(X, None, *STATISTICS),
        "weight must be a torch.Tensor; got NoneType",
    ),
    "weight of other channels, with batch norm": (
        lambda: ops.depthwise_conv_bn_act(X, DEPTHWISE[:5], *STATISTICS),
        r"weight must have shape \(8, 1, kh, kw\).*got \(5, 1, 3, 3\)",
    ),
    "kernel_layout of a vector": (lambda: ops.kernel_layout(POOLED[0]), "weight must have 2 or 4 dimensions"),
}


@pytest.mark.parametrize("case", CASES)
def test_bad_arguments(case):
    call, message = CASES[case]
    with pytest.raises(effops.ArgumentError, match=message):
        call()


@pytest.mark.parametrize("backend", ["cpu", "reference"])
def test_the_same_error_on_every_backend(backend):
    with effops.backend(backend), pytest.raises(effops.ArgumentError, match="weight must have shape"):
        ops.depthwise_conv_act(X, DEPTHWISE[:5])


def test_errors_are_value_and_runtime_errors():
    assert issubclass(effops.ArgumentError, ValueError)
    assert issubclass(effops.BackendError, RuntimeError)
    assert issubclass(effops.CheckpointError, ValueError)


def test_the_raw_op_refuses_what_would_corrupt_memory():
    with pytest.raises(RuntimeError, match="weight must have shape"):
        torch.ops.effops.depthwise_conv_act(X, DEPTHWISE[:5], None, 1, 1, 1, 1, 1, 1, 0)
    with pytest.raises(RuntimeError, match="gate must be a dense float32 tensor"):
        torch.ops.effops.pointwise_conv_act(X, POINTWISE, None, torch.ones(2, 9), None, 0)
    with pytest.raises(RuntimeError, match="float32 or bfloat16"):
        torch.ops.effops.depthwise_conv_act(X.double(), DEPTHWISE.double(), None, 1, 1, 1, 1, 1, 1, 0)
