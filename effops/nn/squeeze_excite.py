"""Squeeze-and-excitation: Hu et al., arXiv 1709.01507."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from effops.ops import checks
from effops.ops.functional import squeeze_excite
from effops.ops.training import SqueezeExcite as GateWeights

from .activation import activate
from .plain import CONVS, is_plain

_GATES = {"sigmoid": torch.sigmoid, "hardsigmoid": F.hardsigmoid}


class SqueezeExcite(nn.Module):
    """``x * gate(W2 act(W1 mean(x) + b1) + b2)``. Keys: ``conv_reduce``, ``conv_expand``.

    Args:
        channels: of x.
        reduced_channels: width between W1 and W2.
        act: activation between W1 and W2.
        gate: "sigmoid" (EfficientNet) or "hardsigmoid" (MobileNetV3).
    """

    def __init__(self, channels: int, reduced_channels: int, *, act: str = "relu", gate: str = "sigmoid") -> None:
        super().__init__()
        checks.activation_code(act)
        checks.gate_code(gate)
        self.act = act
        self.gate = gate
        self.conv_reduce = nn.Conv2d(channels, reduced_channels, 1)
        self.conv_expand = nn.Conv2d(reduced_channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        if not self._has_plain_convs():
            pooled = activate(self.conv_reduce(x.mean((2, 3), keepdim=True)), self.act)
            return x * _GATES[self.gate](self.conv_expand(pooled))
        return squeeze_excite(x, *self._weights(), act=self.act, gate=self.gate)

    def gate_weights(self) -> GateWeights:
        """As blocks take it (:func:`effops.ops.mbconv`, :class:`effops.ops.Layer`)."""
        return GateWeights(*self._weights(), act=self.act, gate=self.gate)

    def _has_plain_convs(self) -> bool:
        return all(is_plain(conv, CONVS) for conv in self._modules.values())

    def is_plain(self) -> bool:
        """Whether fused ops may stand for it and for what it holds."""
        return is_plain(self, (SqueezeExcite,)) and self._has_plain_convs()

    def _weights(self) -> tuple[Tensor, Tensor | None, Tensor, Tensor | None]:
        """(reduce weight, reduce bias, expand weight, expand bias), as the ops take them."""
        reduce, expand = self._modules["conv_reduce"]._parameters, self._modules["conv_expand"]._parameters
        return reduce["weight"], reduce["bias"], expand["weight"], expand["bias"]


def squeeze_excite_or_identity(channels: int, reduced: int, act: str, gate: str) -> SqueezeExcite | nn.Identity:
    """The squeeze-excite of a block; the identity where the bottleneck is 0 wide."""
    return SqueezeExcite(channels, reduced, act=act, gate=gate) if reduced else nn.Identity()
