"""What every peer is given: a plain network, its inputs, and how effops does the same."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor, nn

from .verify import Outputs

Inputs = tuple[Tensor | None, ...]
Function = Callable[..., Outputs]


@dataclass(frozen=True)
class Provider:
    """A function ready to be timed, and the input sets to call it with, in the layout that suits it."""

    function: Function
    inputs: list[Inputs]


@dataclass(frozen=True)
class Case:
    """One problem.

    Attributes:
        module: the problem in plain torch, in eval, in the dtype of the case. A peer that changes it copies
            it first.
        inputs: input sets, NCHW in memory. One set reads the same memory at every call; several rotate past
            the cache.
        fused: builds effops' answer to the same problem, with the same weights.
        dtype: of weights and images.
        mapped: the same as ``fused`` with its weights in a mapped file, where there is one.
        onnx: the module as an ONNX file, where there is one already, as users who serve have it.
    """

    module: nn.Module
    inputs: list[Inputs]
    fused: Callable[[], Function]
    dtype: torch.dtype
    mapped: Callable[[], Function] | None = None
    onnx: Path | None = None

    @cached_property
    def channels_last_inputs(self) -> list[Inputs]:
        """The same inputs with images in channels_last; converted once, outside of what is timed."""
        return [tuple(_channels_last(value) for value in inputs) for inputs in self.inputs]


def _channels_last(value: Tensor | None) -> Tensor | None:
    if value is None or value.dim() != 4:
        return value
    return value.contiguous(memory_format=torch.channels_last)
