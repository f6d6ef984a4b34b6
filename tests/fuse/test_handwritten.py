"""Blocks of other people's making are fused when they compute what fused ops compute, and only then."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

import effops
from effops.testing import assert_as_good_as_eager
from tests import peers
from tests.fuse.handwritten import FUSED, LEFT, OneActivationBlock
from tests.fuse.outcomes import distance, step

LAYOUTS = (torch.contiguous_format, torch.channels_last)


class Around(nn.Module):
    """A network of one block, with a stem that gives it 8 channels."""

    def __init__(self, block: nn.Module) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU())
        self.block = block

    def forward(self, x: Tensor) -> Tensor:
        return self.block(self.stem(x))


def network(blocks: dict, name: str) -> nn.Module:
    torch.manual_seed(0)
    return peers.randomise(Around(blocks[name]()))


def image(dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(3, 3, 16, 16, generator=torch.Generator().manual_seed(0)).to(dtype)


@pytest.mark.parametrize("name", FUSED)
def test_a_block_is_fused_whole(name):
    model = network(FUSED, name)
    double = copy.deepcopy(model).double()
    with torch.no_grad():
        eager, exact = model(image()), double(image(torch.float64))
    train_exact = step(double, image(torch.float64))
    eager_steps = [distance(step(model, image().to(memory_format=layout)), train_exact) for layout in LAYOUTS]
    effops.fuse(model, strict=True, verify=image())
    assert [row.path for row in model.fuse_report.fused] == ["stem", "block"]
    assert model.fuse_report.shares.macs == 1
    with torch.no_grad():
        assert_as_good_as_eager(model(image()), eager, exact)
    for key, error in distance(step(model, image()), train_exact).items():
        assert error <= max(*(2 * errors[key] for errors in eager_steps), 1e-5), key


@pytest.mark.parametrize("name", FUSED)
def test_the_kernels_run_it(name, monkeypatch):
    """Neither in eval nor, where its convolutions have no bias, in training do the modules run one by one."""
    model = effops.fuse(network(FUSED, name))

    def refuse(*_: object) -> None:
        raise AssertionError("a batch norm ran by itself")

    monkeypatch.setattr(nn.BatchNorm2d, "forward", refuse)
    with torch.no_grad():
        model(image())
    if "biases" not in name:
        model.train()(image()).sum().backward()
    else:
        with pytest.raises(AssertionError):
            model.train()(image())


@pytest.mark.parametrize("name", LEFT)
def test_a_look_alike_is_left(name):
    model = network(LEFT, name)
    with torch.no_grad():
        before = copy.deepcopy(model)(image())
    effops.fuse(model)
    assert type(model.block) is type(LEFT[name]())
    assert any(row.path.startswith("block") and row.detail for row in model.fuse_report.left)
    with torch.no_grad():
        torch.testing.assert_close(model(image()), before, rtol=1e-5, atol=1e-5)


def test_drop_connect_given_as_an_argument_draws_the_same_samples():
    block = peers.randomise(nn.Sequential(OneActivationBlock(8, 8)))[0].train()
    x = torch.randn(6, 8, 9, 10)
    fused = effops.fuse(copy.deepcopy(block))
    for rate in (0.5, 0.0, None):
        torch.manual_seed(3)
        expected = block(x, drop_connect_rate=rate)
        torch.manual_seed(3)
        torch.testing.assert_close(fused(x, rate), expected, rtol=1e-4, atol=1e-4)
    assert len(fused.fuse_report.fused) == 1


def test_static_zeros_that_do_not_fit_the_image_run_as_they_are():
    """Fixed zeros are TensorFlow's for even sizes; for odd ones the modules run, and the result is the same."""
    model = network(FUSED, "one activation, stride, static padding")
    x = torch.randn(2, 3, 15, 17)
    with torch.no_grad():
        expected = model(x)
        torch.testing.assert_close(effops.fuse(model)(x), expected, rtol=1e-5, atol=1e-5)
