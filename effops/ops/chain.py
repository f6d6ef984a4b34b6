"""Chains of convolution, batch norm and activation, as these networks' blocks are: what they compute, and their steps.

A chain is the unit of training. Of every convolution only the raw output is written; batch norm, activation and gate
happen where the next convolution reads it (:mod:`effops.ops.reference_training`), forward and backward.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

POINTWISE, DEPTHWISE, DENSE, NO_CONV = "pointwise", "depthwise", "dense", "none"
MEMORY = ("default", "low")


@dataclass(frozen=True)
class Unit:
    """One convolution, its batch norm and its activation; optionally squeeze-excite before the convolution.

    Attributes:
        conv: "pointwise", "depthwise", "dense", or "none" for a batch norm without convolution.
        geometry: stride, padding and dilation, each (height, width), as in the op schemas; padding may be SAME.
        act: code of the activation after the batch norm.
        eps: added to the variance.
        batch_stats: normalise by the statistics of the batch; else by those given, which are then constants.
        squeeze_excite: codes of activation and gate of the squeeze-excite before the convolution, or None.
        group: process group over which the statistics are taken, or None.
    """

    conv: str
    geometry: tuple[int, int, int, int, int, int]
    act: int
    eps: float
    batch_stats: bool
    squeeze_excite: tuple[int, int] | None = None
    group: Any = None


@dataclass(frozen=True)
class Chain:
    """Units one after the other, with what surrounds them.

    Attributes:
        units: at least one. Only the first may be dense or without convolution, and only a pointwise one that is not
            the first may have squeeze-excite.
        residual: add the chain's input to its output.
        pool: also return the float32 spatial mean of the output.
        memory: "default" keeps every raw convolution output for the backward pass; "low" drops the expansions and
            convolves again.
    """

    units: tuple[Unit, ...]
    residual: bool = False
    pool: bool = False
    memory: str = "default"

    def rows(self) -> Iterator[str]:
        """Rows of the op table that the kernels of this chain need."""
        names = {
            POINTWISE: ("pointwise_conv_stats", "pointwise_conv_backward"),
            DEPTHWISE: ("depthwise_conv_stats", "depthwise_conv_backward"),
            DENSE: ("conv_act", "batch_norm_stats", "batch_norm_grad_apply"),
            NO_CONV: ("batch_norm_stats", "batch_norm_grad_apply"),
        }
        for unit in self.units:
            yield from names[unit.conv]
            if unit.squeeze_excite:
                yield from ("batch_norm_pool", "se_gate", "se_gate_backward")
        yield from ("batch_norm_apply_pool" if self.pool else "batch_norm_apply", "batch_norm_grad_sums")

    def recomputed(self, i: int) -> bool:
        """Whether the output of unit i is dropped after the forward pass and computed again in the backward pass."""
        last = i == len(self.units) - 1
        return self.memory == "low" and not last and i == 0 and self.units[i].conv == POINTWISE


# Tensors of a unit, in this order, each None where it has no meaning: weight of the convolution; weight and bias of the
# batch norm; mean and variance, given where batch_stats is not set; the four of squeeze-excite.
UNIT_TENSORS = 9


@dataclass(frozen=True)
class UnitTensors:
    """The tensors of one unit by name."""

    weight: Tensor | None
    bn_weight: Tensor | None
    bn_bias: Tensor | None
    mean: Tensor | None
    var: Tensor | None
    squeeze_excite: tuple[Tensor | None, ...]


def unit_tensors(tensors: Sequence[Tensor | None]) -> list[UnitTensors]:
    """The flat tensors of a chain, by unit."""
    starts = range(0, len(tensors), UNIT_TENSORS)
    return [UnitTensors(*tensors[i : i + 5], tuple(tensors[i + 5 : i + UNIT_TENSORS])) for i in starts]
