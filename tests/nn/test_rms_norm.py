"""The root mean square norm of images, against its formula."""

from __future__ import annotations

import warnings

import pytest
import torch
from torch import nn

from effops.nn import RmsNorm2d
from tests import peers


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_every_pixel_over_the_root_mean_square_of_its_channels(layout, dtype):
    g = torch.Generator().manual_seed(0)
    # Squares of a thousand are too coarse in bfloat16: the mean has to be taken in float32.
    x = (torch.randn(2, 37, 5, 4, generator=g) * 30).to(dtype).to(memory_format=layout)
    norm = RmsNorm2d(37, eps=0.5).to(dtype)
    nn.init.uniform_(norm.weight, 0.5, 1.5, generator=g)
    y = norm(x)
    wide = x.double()
    exact = wide / (wide.square().mean(1, keepdim=True) + 0.5).sqrt() * norm.weight.double().view(1, -1, 1, 1)
    assert y.dtype == dtype and y.shape == x.shape
    assert y.is_contiguous(memory_format=torch.channels_last) or layout == torch.contiguous_format
    assert peers.relative_error(y.double(), exact) < 2 * torch.finfo(dtype).eps


def test_a_wider_weight_widens_the_result():
    """As under autocast; torch warns of different types where they reach it."""
    x = torch.randn(1, 4, 2, 2).bfloat16()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        y = RmsNorm2d(4)(x)
    assert torch.equal(y, RmsNorm2d(4)(x.float()))


def test_the_gradient():
    norm = RmsNorm2d(3, eps=0.1).double()
    x = torch.randn(2, 3, 2, 2, dtype=torch.float64, requires_grad=True)

    def run(x, weight):
        return torch.func.functional_call(norm, {"weight": weight}, (x,))

    assert torch.autograd.gradcheck(run, (x, norm.weight))
