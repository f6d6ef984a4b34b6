"""A small network of blocks written by hand, and how to see what runs."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from tests import peers
from tests.fuse.handwritten import FunctionalBlock, SharedActivationBlock


class Net(nn.Module):
    """A stem, two blocks, a block that is used twice, and a classifier."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1, bias=False), nn.BatchNorm2d(8), nn.Hardswish(inplace=True))
        self.first = FunctionalBlock(8, 8)
        self.second = SharedActivationBlock(8, 12, 2)
        self.third = SharedActivationBlock(12, 12)
        self.again = self.third
        self.classifier = nn.Linear(12, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.again(self.third(self.second(self.first(self.stem(x)))))
        return self.classifier(x.mean((2, 3)))


def net() -> Net:
    torch.manual_seed(0)
    return peers.randomise(Net())


def image(batch: int = 2) -> Tensor:
    return torch.randn(batch, 3, 18, 22, generator=torch.Generator().manual_seed(0))


def modules_run(model: nn.Module, x: Tensor) -> set[str]:
    """Names of the batch norms that run by themselves: of a fused block there are none."""
    names = {id(module): name for name, module in model.named_modules()}
    ran: set[str] = set()
    original = nn.BatchNorm2d.forward

    def forward(self: nn.Module, x: Tensor) -> Tensor:
        ran.add(names[id(self)])
        return original(self, x)

    nn.BatchNorm2d.forward = forward
    try:
        with torch.no_grad():
            model(x)
    finally:
        nn.BatchNorm2d.forward = original
    return ran


def close(actual: Tensor, expected: Tensor, rtol: float = 1e-4) -> None:
    torch.testing.assert_close(actual, expected, rtol=rtol, atol=rtol)
