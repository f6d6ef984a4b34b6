"""Small models and images for the tests of compiled models."""

from __future__ import annotations

import torch
from torch import Tensor, nn

import effops
from tests import peers


def images(batch: int = 2, size: int = 64, dtype: torch.dtype = torch.float32, channels: int = 3) -> Tensor:
    return torch.randn(batch, channels, size, size, generator=torch.Generator().manual_seed(size)).to(dtype)


def made(name: str = "mobilenetv3_small_050", **arguments) -> nn.Module:
    return peers.randomise(effops.create_model(name, **arguments))


def close(got, want, tolerance: float = 1e-5) -> None:
    got, want = ([x] if isinstance(x, Tensor) else list(x) for x in (got, want))
    assert len(got) == len(want)
    for a, b in zip(got, want, strict=True):
        assert a.shape == b.shape and a.dtype == b.dtype
        assert (a - b).abs().max() <= tolerance * b.abs().max()
