"""Blocks so large that they run as one kernel: the op table's samples run as their parts."""

import pytest
import torch

from effops.testing import assert_as_good_as_eager

from ..ops.blocks import block, fused
from .test_kernels import DTYPES, check, on, run

LARGE = {
    "EfficientNetV2": lambda: fused(16, 24, (96, 96), 96, 48, stride=2),
    "EfficientNetV2, residual": lambda: fused(16, 48, (48, 48), 192, 48),
    "EfficientNetV2-L": lambda: fused(16, 96, (56, 56), 384, 96),
    "EdgeTPU": lambda: fused(16, 32, (56, 56), 256, 32, act=1),
    "EfficientNet, stride 2": lambda: block(16, 16, (112, 112), 96, 24, stride=2, reduced=4),
    "EfficientNet, residual": lambda: block(64, 24, (56, 56), 144, 24, reduced=6),
    "5x5": lambda: block(64, 24, (56, 56), 144, 40, 5, reduced=6),
    "MobileNetV2, stride 2": lambda: block(56, 32, (56, 56), 192, 64, stride=2, act=2),
    "MobileNetV2": lambda: block(64, 24, (57, 55), 140, 24, act=2),
}


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("name", LARGE)
def test_parity(backend, device, name, dtype):
    check(backend, on(device, LARGE[name]().to(dtype)))


@pytest.mark.parametrize("name", LARGE)
def test_bitwise_repeatable(backend, device, name):
    call = on(device, LARGE[name]().to(torch.bfloat16))
    first = run(backend, call)[0]
    assert all(torch.equal(run(backend, call)[0], first) for _ in range(3))


@pytest.mark.parametrize("name", ["EfficientNetV2, residual", "EfficientNet, residual"])
def test_as_good_as_the_reference_in_any_layout(backend, device, name):
    call = on(device, LARGE[name]().to(torch.bfloat16))
    other = call.map(lambda key, t: t.transpose(-1, -2).contiguous().transpose(-1, -2) if key == "x" else t)
    exact = call.to(torch.float64).reference()[0]
    assert_as_good_as_eager(run(backend, other)[0], call.reference()[0], exact)
