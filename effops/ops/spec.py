"""What an op is: one row of the table in :mod:`effops.ops.table`, and the vocabulary its arguments use."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

# The position in the tuple is the code in the op schemas and in csrc/core/activation.h.
ACTIVATIONS = ("identity", "relu", "relu6", "silu", "hardswish", "gelu")
GATES = ("sigmoid", "hardsigmoid")

# Padding code that stands for TensorFlow's SAME, resolved against the input's size inside the kernel.
SAME = -1

Outputs = torch.Tensor | tuple[torch.Tensor, ...]


@dataclass(frozen=True)
class Cost:
    """The least work a call can do.

    Attributes:
        macs: multiply-accumulates; an arithmetic limit counts two operations each.
        bytes: every input read once and every output written once.
    """

    macs: int
    bytes: int


@dataclass(frozen=True)
class Op:
    """One op, declared once; registration, checks, tests, benches and docs iterate over these rows.

    Attributes:
        name: the name under ``torch.ops.effops``.
        schema: the schema without the name.
        formula: what it computes, in one line.
        reference: plain differentiable torch with the schema's arguments; defines what is correct.
        fake: shapes, dtypes and strides of the outputs, with the schema's arguments.
        cost: the least work of a call, with the schema's arguments.
        backends: kernel backends that serve it, by device type; the reference serves every device.
        backward: gradients by kernels: see :mod:`effops.ops.backward`. None for a row that is itself part of one.
        parts: rows that it is made of where no kernel runs it whole; it takes its gradients through them.
    """

    name: str
    schema: str
    formula: str
    reference: Callable[..., Outputs]
    fake: Callable[..., Outputs]
    cost: Callable[..., Cost]
    backends: dict[str, tuple[str, ...]]
    backward: Callable[..., tuple[Tensor | None, ...]] | None = None
    parts: tuple[str, ...] = ()

    @cached_property
    def overload(self) -> Any:
        """The callable overload, ``torch.ops.effops.<name>.default``."""
        return getattr(torch.ops.effops, self.name).default

    def overload_in(self, namespace: str) -> Any:
        """The callable overload of a backend's namespace; see :mod:`effops.ops.register`."""
        if namespace == "effops":  # cached: this runs before every call
            return self.overload
        return getattr(getattr(torch.ops, namespace), self.name).default
