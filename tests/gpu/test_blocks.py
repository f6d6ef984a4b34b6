"""Whole blocks of the networks, large enough that the kernels which hold the expanded tensor back are chosen."""

from __future__ import annotations

import pytest
import torch

from effops import ops
from effops.testing import KernelSample, Sample

from .test_kernels import DTYPES, check, on


def _folded(out: int, c: int, kernel: int) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.randn(out, c, kernel, kernel) / (kernel * c**0.5), torch.randn(out)


def mbconv(n: int, c: int, hidden: int, out: int, size: int, reduced: int, **kwargs) -> Sample:
    folded = (_folded(hidden, c, 1), _folded(hidden, 1, 3), _folded(out, hidden, 1))
    if reduced:
        reduce, excite = torch.randn(reduced, hidden) / hidden**0.5, torch.randn(hidden, reduced)
        kwargs["squeeze_excite"] = ops.SqueezeExcite(reduce, torch.randn(reduced), excite, torch.randn(hidden))
    return Sample("mbconv", f"{n}x{c}x{size}-se{reduced}", (torch.randn(n, c, size, size), *folded), kwargs)


def fused_mbconv(n: int, c: int, hidden: int, out: int, size: int, **kwargs) -> Sample:
    folded = (_folded(hidden, c, 3), _folded(out, hidden, 1))
    return Sample("fused_mbconv", f"{n}x{c}x{size}", (torch.randn(n, c, size, size), *folded), kwargs)


SAMPLES = [
    lambda: mbconv(16, 16, 96, 24, 112, 4, stride=2, padding="same", act="silu"),
    lambda: mbconv(56, 32, 192, 64, 56, 0, stride=2, padding=1, act="relu6"),
    lambda: mbconv(24, 16, 64, 24, 112, 0, stride=2, padding=1, act="relu"),
    lambda: fused_mbconv(2, 24, 96, 48, 192, stride=2, padding="same", act="silu"),
    lambda: fused_mbconv(16, 64, 256, 64, 48, padding=1, act="silu", residual=True),
    lambda: fused_mbconv(24, 96, 384, 96, 28, padding=1, act="relu", residual=True),
]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("make", SAMPLES)
def test_parity(backend, device, make, dtype):
    torch.manual_seed(0)
    check(backend, on(device, KernelSample.of(make()).to(dtype)))
