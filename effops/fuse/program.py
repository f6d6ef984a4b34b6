"""What a fused module computes, as plain data: which of the modules inside it is which part of the fused ops.

A program names modules by their path. It holds none, so copies, pickles and moves of a model need no care, and every
call looks at the modules as they are now: :meth:`Part.of` gives None for one that a fused op may no longer stand for.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

from torch import nn

from effops.nn.plain import NORMS

Path = tuple[str, ...]


def has_hooks(module: nn.Module) -> bool:
    """Whether something is attached to a module that a fused op would pass by."""
    return bool(
        module._forward_hooks
        or module._forward_pre_hooks
        or module._backward_hooks
        or module._backward_pre_hooks
        or "forward" in module.__dict__
    )


_SETTING = (bool, int, float, str, type(None))
# They decide nothing in eval, or go with what is looked at anyway.
_NO_SETTING = frozenset({"training", "inplace", "call_super_init", "_is_full_backward_hook"})


def settings(module: nn.Module) -> tuple[tuple[str, Any], ...]:
    """The plain values among a module's attributes: what may switch its forward to another computation."""
    return tuple(
        (name, value) for name, value in module.__dict__.items() if name not in _NO_SETTING and type(value) in _SETTING
    )


@dataclass(frozen=True)
class Part:
    """A module inside the fused one.

    Attributes:
        path: names from the fused module down to it; empty for the fused module itself.
        type: its class when the program was read.
        settings: its plain attributes then, where they decide what it computes.
    """

    path: Path
    type: type[nn.Module]
    settings: tuple[tuple[str, Any], ...] = ()

    @property
    def name(self) -> str:
        return ".".join(self.path)

    def of(self, root: nn.Module) -> nn.Module | None:
        """The module, or None where it was replaced, changed, or given hooks. Hooks of root itself are run anyway."""
        module = root
        for name in self.path:
            module = module._modules.get(name)
            if module is None:
                return None
        if self.path and (not self._is_of_type(module) or has_hooks(module)):
            return None
        attributes = module.__dict__
        for name, value in self.settings:
            if attributes.get(name, self) != value:
                return None
        return module

    def _is_of_type(self, module: nn.Module) -> bool:
        # Synchronised batch norm may take the place of torch's, and the other way round.
        return type(module) is self.type or (self.type in NORMS and type(module) in NORMS)


@dataclass(frozen=True)
class Activation:
    """An activation or gate by name; part is the module that it is, None for a function inside a forward."""

    name: str = "identity"
    part: Part | None = None


@dataclass(frozen=True)
class Norm:
    """A batch norm. ``constant``: its statistics and weights are buffers that never change (frozen batch norm)."""

    part: Part
    constant: bool = False


@dataclass(frozen=True)
class Conv:
    """A convolution. ``same``: it pads as TensorFlow does. ``pad``: a module of zeros before it, or None."""

    part: Part
    same: bool = False
    pad: Part | None = None


@dataclass(frozen=True)
class GateProgram:
    """``x * gate(W2 act(W1 mean(x) + b1) + b2)``."""

    reduce: Part
    expand: Part
    act: Activation
    gate: Activation
    around: tuple[Part, ...] = ()


@dataclass(frozen=True)
class ConvUnit:
    """``scale * act(norm(conv(gate(x))))``. ``scale``: a module and the name of its parameter."""

    conv: Conv
    norm: Norm | None = None
    act: Activation = field(default_factory=Activation)
    gate: GateProgram | None = None
    scale: tuple[Part, str] | None = None


@dataclass(frozen=True)
class Drop:
    """What a residual branch passes before x is added.

    Attributes:
        part: the module, None where it is a function inside a forward.
        rate: attribute of the module, or argument of the forward, with the probability.
        draw: "bernoulli" or "floor" (of a uniform number): one factor a sample, drawn as the module draws it; "module":
            the module runs as it is.
    """

    part: Part | None
    rate: str
    draw: Literal["bernoulli", "floor", "module"]


@dataclass(frozen=True)
class ChainProgram:
    """Units one after the other; x added with ``residual``, after ``drop``.

    Attributes:
        around: other modules that must stay as they are: containers, identities, and the fused module itself.
        argument: name of the forward's first argument.
    """

    units: tuple[ConvUnit, ...]
    residual: bool = False
    drop: Drop | None = None
    around: tuple[Part, ...] = ()
    argument: str = "x"


@dataclass(frozen=True)
class NormProgram:
    """``act(norm(x))``: a batch norm with its activation, without a convolution."""

    norm: Norm
    act: Activation
    around: tuple[Part, ...] = ()


@dataclass(frozen=True)
class Step:
    """Items of a ``nn.Sequential`` by name; program is None for an item that runs as it is."""

    items: tuple[str, ...]
    program: ChainProgram | NormProgram | GateProgram | None = None


@dataclass(frozen=True)
class SequenceProgram:
    """A ``nn.Sequential`` of which some items run together."""

    steps: tuple[Step, ...]

    @cached_property
    def names(self) -> tuple[str, ...]:
        return tuple(name for step in self.steps for name in step.items)


@dataclass(frozen=True)
class NetworkProgram:
    """Modules that methods of a known network run one after the other; the key is the first one's name.

    Attributes:
        pairs: items and what they become.
        methods: methods of the class that run them in this order and nothing between.
    """

    pairs: tuple[Step, ...]
    methods: tuple[str, ...]


Program = ChainProgram | NormProgram | GateProgram | SequenceProgram | NetworkProgram
