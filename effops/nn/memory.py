"""What a model keeps between its forward and its backward pass."""

from __future__ import annotations

from torch import nn

from effops.errors import ArgumentError
from effops.ops.chain import MEMORY


def set_memory(model: nn.Module, memory: str) -> nn.Module:
    """Choose what the blocks of a model keep between the forward and the backward pass; returns the model.

    Args:
        memory: "default" keeps the raw output of every convolution: batch norm, activation and squeeze-excite are
            computed again, which costs no extra pass. "low" drops the expanded tensor of every inverted residual, too,
            and convolves again in the backward pass.
    """
    if memory not in MEMORY:
        raise ArgumentError(f"memory must be one of {', '.join(MEMORY)}; got {memory!r}")

    def choose(module: nn.Module) -> None:
        if hasattr(module, "memory"):
            module.memory = memory

    return model.apply(choose)
