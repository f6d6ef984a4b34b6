"""Activations and gates by name, for the unfused path."""

from __future__ import annotations

from torch import Tensor

from effops.ops import checks, reference


def activate(x: Tensor, act: str) -> Tensor:
    """Apply the activation with this name: identity, relu, relu6, silu, hardswish or gelu."""
    return reference.activation(x, checks.activation_code(act))
