"""The public modules: residuals, padding, stochastic depth, squeeze-excite, and bad arguments."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from effops.errors import ArgumentError
from effops.nn import (
    ConvBNAct,
    DepthwiseConvBNAct,
    DepthwiseSeparable,
    DropPath,
    MBConv,
    PointwiseConvBNAct,
    SqueezeExcite,
)
from effops.nn.conv import Conv2dSame, conv2d


@pytest.mark.parametrize("size", [7, 8, 9, 1])
@pytest.mark.parametrize("kernel_size", [2, 3, 5])
@pytest.mark.parametrize("stride", [1, 2, 3])
def test_same_padding_is_tensorflows(size, kernel_size, stride):
    """Output size ceil(size / stride), the odd zero after; by cutting windows from a padded map."""
    conv = conv2d(1, 1, kernel_size, stride=stride, padding="same")
    x = torch.randn(1, 1, size, size)
    out = -(-size // stride)
    total = max((out - 1) * stride + kernel_size - size, 0)
    padded = torch.zeros(1, 1, size + total, size + total)
    padded[:, :, total // 2 : total // 2 + size, total // 2 : total // 2 + size] = x
    windows = F.unfold(padded, kernel_size, stride=stride)
    expected = (conv.weight.flatten() @ windows[0]).reshape(1, 1, out, out)
    torch.testing.assert_close(conv(x), expected)


def test_same_padding_that_is_symmetric_stays_a_plain_convolution():
    assert type(conv2d(4, 4, 3, padding="same")) is nn.Conv2d
    assert type(conv2d(4, 4, 3, stride=2, padding="same")) is Conv2dSame


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("padding", [None, "same", 0])
def test_blocks_agree_with_their_formula(training, padding):
    """The formula spelled out with torch's functions, in training and in eval."""
    torch.manual_seed(0)
    block = MBConv(8, 24, 12, 5, stride=2, padding=padding, se_channels=3, act="hardswish", se_gate="hardsigmoid")
    block.train(training)

    def norm(x: torch.Tensor, bn: nn.BatchNorm2d) -> torch.Tensor:
        statistics = (None, None) if training else (bn.running_mean, bn.running_var)
        return F.batch_norm(x, *statistics, bn.weight, bn.bias, training, 0.0, bn.eps)

    x = torch.randn(2, 8, 11, 14)
    y = F.hardswish(norm(F.conv2d(x, block.conv_pw.weight), block.bn1))
    if padding is None:
        y = F.pad(y, (2, 2, 2, 2))
    elif padding == "same":
        y = F.pad(y, (1, 2, 2, 2))
    y = F.hardswish(norm(F.conv2d(y, block.conv_dw.weight, stride=2, groups=24), block.bn2))
    se = block.se
    gate = F.hardsigmoid(se.conv_expand(F.hardswish(se.conv_reduce(y.mean((2, 3), keepdim=True)))))
    expected = norm(F.conv2d(y * gate, block.conv_pwl.weight), block.bn3)
    torch.testing.assert_close(block(x), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("arguments", "has"),
    [
        ({"in_channels": 8, "out_channels": 8}, True),
        ({"in_channels": 8, "out_channels": 8, "residual": False}, False),
        ({"in_channels": 8, "out_channels": 8, "stride": 2}, False),
        ({"in_channels": 8, "out_channels": 16}, False),
    ],
)
@pytest.mark.parametrize("training", [False, True])
def test_the_residual_is_added_where_the_shapes_allow_it(arguments, has, training):
    """With the last norm at zero the branch is zero, and the output is the input or nothing."""
    block = DepthwiseSeparable(**arguments).train(training)
    nn.init.zeros_(block.bn2.weight)
    x = torch.randn(2, 8, 6, 6)
    y = block(x)
    torch.testing.assert_close(y, x if has else torch.zeros_like(y))


@pytest.mark.parametrize("training", [False, True])
def test_squeeze_excite_alone(training):
    se = SqueezeExcite(8, 2, act="relu", gate="sigmoid").train(training)
    x = torch.randn(2, 8, 5, 5)
    gate = torch.sigmoid(se.conv_expand(F.relu(se.conv_reduce(x.mean((2, 3), keepdim=True)))))
    torch.testing.assert_close(se(x), x * gate)


def test_drop_path_drops_whole_samples_and_keeps_the_mean():
    torch.manual_seed(0)
    drop = DropPath(0.25).train()
    y = drop(torch.ones(4000, 2, 3, 3))
    values = y.unique().tolist()
    assert values == [0.0, pytest.approx(1 / 0.75)]
    assert y.flatten(1).std(1).max() == 0
    assert y.mean().item() == pytest.approx(1, abs=0.05)
    assert drop.eval()(y) is y


@pytest.mark.parametrize(
    ("build", "complaint"),
    [
        (lambda: ConvBNAct(3, 8, act="swish"), "act must be one of.*'swish'"),
        (lambda: MBConv(8, 48, 8, act="swish"), "act must be one of.*'swish'"),
        (lambda: MBConv(8, 48, 8, se_channels=2, se_gate="tanh"), "gate must be one of.*'tanh'"),
        (lambda: DepthwiseConvBNAct(8, padding="valid"), "padding must be None, 'same' or an int.*'valid'"),
        (lambda: DepthwiseConvBNAct(8, padding=-1), "padding must be.*-1"),
        (lambda: DropPath(1.0), r"drop path rate must be in \[0, 1\); got 1.0"),
        (lambda: PointwiseConvBNAct(8, 8).eval()(torch.randn(8, 4, 4)), "4 dimensions"),
    ],
)
def test_bad_arguments_are_named(build, complaint):
    with pytest.raises(ArgumentError, match=complaint):
        build()
