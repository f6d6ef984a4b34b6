"""Activations by name, for modules that run one by one."""

from __future__ import annotations

from functools import partial

import torch.nn.functional as F
from torch import Tensor

from effops.errors import ArgumentError
from effops.ops import checks, reference
from effops.ops.spec import ACTIVATIONS

# Those that no op has: what has one of them runs module by module.
_MODULES_ALONE = {"gelu_tanh": partial(F.gelu, approximate="tanh")}
_NAMES = (*ACTIVATIONS, *_MODULES_ALONE)


def check_activation(act: str) -> None:
    """Raise ArgumentError for a name that :func:`activate` does not know."""
    if act not in _NAMES:
        raise ArgumentError(f"act must be one of {', '.join(_NAMES)}; got {act!r}")


def ops_have(act: str) -> bool:
    """Whether the fused ops have this activation."""
    return act not in _MODULES_ALONE


def activate(x: Tensor, act: str) -> Tensor:
    """Apply the activation with this name: identity, relu, relu6, silu, hardswish, gelu or gelu_tanh."""
    found = _MODULES_ALONE.get(act)
    return reference.activation(x, checks.activation_code(act)) if found is None else found(x)
