"""A convolution and its batch norm under names of their own, as parts of larger modules have them."""

from __future__ import annotations

from torch import Tensor, nn

from .plain import is_plain
from .units import Unit


class ConvBN(nn.Module):
    """A convolution and its batch norm. Keys: ``conv``, ``bn``.

    The activation and the pooling after it belong to what it is a part of.
    """

    def __init__(self, conv: nn.Conv2d, bn_eps: float, bn_momentum: float) -> None:
        super().__init__()
        self.conv = conv
        self.bn = nn.BatchNorm2d(conv.out_channels, eps=bn_eps, momentum=bn_momentum)

    def forward(self, x: Tensor) -> Tensor:
        return self.bn(self.conv(x))


def nested_unit(name: str, module: nn.Module, act: str) -> Unit:
    """The unit of a :class:`ConvBN` with this name, as a whole where it has a hook or was replaced."""
    if is_plain(module, (ConvBN,)):
        return Unit(f"{name}.conv", module.conv, module.bn, act)
    return Unit(name, module, None, act)
