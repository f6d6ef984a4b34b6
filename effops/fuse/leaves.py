"""Reads the modules inside a block: which is a convolution, batch norm, activation, squeeze-excite and so on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from effops.nn.conv import Conv2dSame
from effops.nn.folding import FoldCache
from effops.nn.plain import NORMS
from effops.ops.backends import backend
from effops.ops.spec import ACTIVATIONS, GATES

from . import trial
from .program import Activation, Conv, Drop, GateProgram, Norm, Part, Path, has_hooks, settings
from .run import run
from .swap import FusedModule, retarget

ACT_TYPES: dict[type[nn.Module], str] = {
    nn.ReLU: "relu",
    nn.ReLU6: "relu6",
    nn.SiLU: "silu",
    nn.Hardswish: "hardswish",
    nn.Sigmoid: "sigmoid",
    nn.Hardsigmoid: "hardsigmoid",
    nn.Identity: "identity",
}
# What may stand around a squeeze-excite's layers, or before a convolution; a trial run shows whether it does.
_SHAPERS = (nn.ZeroPad2d, nn.AdaptiveAvgPool2d, nn.Flatten, nn.Unflatten)
# Attributes under which stochastic depth keeps its probability.
_RATES = ("drop_prob", "p", "rate", "drop_rate", "drop_path_rate")


class Unreadable(Exception):
    """A module that no program can hold; says which and why."""


@dataclass(frozen=True)
class Matrix:
    """A linear map of channels that is no convolution of images: a fully connected layer of a squeeze-excite."""

    part: Part


@dataclass(frozen=True)
class Scale:
    """A factor for every channel."""

    part: Part
    name: str


@dataclass(frozen=True)
class Inert:
    """A module that is no step of its own: it passes its input on, or stands around others, or pools for a gate."""

    part: Part
    passes: bool = False


Leaf = Conv | Norm | Activation | GateProgram | Matrix | Scale | Drop | Inert


class Reader:
    """Reads modules into leaves, and remembers what trial runs have shown."""

    def __init__(self) -> None:
        self._trials: dict[tuple, object] = {}
        # What trial runs of whole blocks gave, by their signature (effops.fuse.blocks).
        self.blocks: dict[tuple, dict[str, Any]] = {}

    def leaves(self, module: nn.Module, path: Path = ()) -> list[tuple[Leaf, nn.Module]]:
        """Everything inside a module in the order of registration, each with its module.

        Raises:
            Unreadable: something inside cannot be part of a program.
        """
        found: list[tuple[Leaf, nn.Module]] = []
        if path:
            known = self.leaf(module, path)
            if known is not None:
                return known
        if module._parameters or module._buffers:
            raise Unreadable(f"{_text(module, path)} has parameters of its own that no fused op knows")
        if not module._modules:
            raise Unreadable(f"{_text(module, path)} is no layer that a fused op knows")
        found.append((Inert(Part(path, type(module), settings(module))), module))
        for name, child in module._modules.items():
            if child is not None:
                found += self.leaves(child, (*path, name))
        return found

    def leaf(self, module: nn.Module, path: Path) -> list[tuple[Leaf, nn.Module]] | None:
        """What one module is; None for one that holds others.

        Raises:
            Unreadable: no program can hold it.
        """
        if isinstance(module, FusedModule):
            raise Unreadable(f"{_text(module, path)} runs fused already")
        if has_hooks(module):
            raise Unreadable(f"{_text(module, path)} has hooks or a forward of its own instance")
        if isinstance(module, nn.Conv2d):
            return self._conv(module, path)
        if isinstance(module, NORMS) or {"running_mean", "running_var"} <= module._buffers.keys():
            return self.norm(module, path)
        if type(module) is nn.Linear:
            return [(Matrix(Part(path, nn.Linear)), module)]
        if type(module) in _SHAPERS:
            return [(Inert(Part(path, type(module), settings(module))), module)]
        if not _holds_tensors(module):
            return self._function(module, path)
        scale = self._scale(module, path)
        if scale is not None:
            return [(scale, module)]
        gate = self.squeeze_excite(module, path)
        return None if gate is None else [(gate, module)]

    def _conv(self, conv: nn.Conv2d, path: Path) -> list[tuple[Leaf, nn.Module]]:
        if type(conv) is nn.Conv2d or type(conv) is Conv2dSame:
            return [(Conv(Part(path, type(conv)), same=type(conv) is Conv2dSame), conv)]
        part = Part(path, type(conv), own_settings(conv))
        children = list(conv._modules.items())
        if len(children) > 1 or (children and type(children[0][1]) not in (nn.ZeroPad2d, nn.Identity)):
            raise Unreadable(f"{_text(conv, path)} holds more than a convolution")
        pad = children[0][0] if children else None
        key = (type(conv), conv.kernel_size, conv.stride, conv.padding, conv.dilation, part.settings, pad)
        way = self._once(("conv", *key), lambda: trial.conv_behaviour(conv, pad))
        if way is None:
            raise Unreadable(f"{_text(conv, path)} does not compute torch's convolution, nor TensorFlow's")
        if way == "pad":
            zeros = Part((*path, pad), type(children[0][1]))
            if type(children[0][1]) is nn.Identity:
                return [(Inert(zeros, passes=True), children[0][1]), (Conv(part), conv)]
            return [(Conv(part, pad=zeros), conv)]
        return [(Conv(part, same=way == "same"), conv)]

    def norm(self, norm: nn.Module, path: Path) -> list[tuple[Leaf, nn.Module]]:
        """A batch norm and the activation that it holds."""
        if type(norm) in NORMS:
            return [(Norm(Part(path, type(norm))), norm)]
        constant = not isinstance(norm, nn.modules.batchnorm._BatchNorm)
        held = {"weight", "bias", "running_mean", "running_var"}
        if norm._buffers.get("running_mean") is None or (constant and not held <= norm._buffers.keys()):
            raise Unreadable(f"{_text(norm, path)} keeps no statistics")
        found: list[tuple[Leaf, nn.Module]] = []
        act = "identity"
        for name, child in norm._modules.items():
            for leaf, module in self.leaf(child, (*path, name)) or []:
                if isinstance(leaf, Activation) and act == "identity":
                    act = leaf.name
                elif not isinstance(leaf, Inert):
                    raise Unreadable(f"{_text(child, (*path, name))} stands inside a batch norm")
                found.append((leaf, module))
        part = Part(path, type(norm), () if not constant else settings(norm))
        key = ("norm", type(norm), constant, act, norm._parameters.keys() >= {"weight"}, own_settings(norm))
        right = act in ACTIVATIONS and self._once(key, lambda: trial.is_batch_norm(norm, act, constant=constant))
        if not right:
            raise Unreadable(f"{_text(norm, path)} does not compute torch's batch norm")
        return [(Norm(part, constant), norm), *found]

    def _function(self, module: nn.Module, path: Path) -> list[tuple[Leaf, nn.Module]] | None:
        """A module without tensors: activation, gate, identity, dropout."""
        part = Part(path, type(module), _function_settings(module))
        inside = [
            (Inert(Part((*path, *name.split(".")), type(child), _function_settings(child)), passes=True), child)
            for name, child in module.named_modules()
            if name
        ]
        if any(has_hooks(child) for _, child in inside):
            raise Unreadable(f"{_text(module, path)} has hooks inside")
        kind = self._once(("function", type(module), part.settings, len(inside)), lambda: _kind_of(module))
        if kind == "identity":
            rate = next((name for name in _RATES if isinstance(module.__dict__.get(name), float)), None)
            draw = rate and self._once(("draw", type(module), rate), lambda: trial.drop_draw(module, rate))
            if draw:
                return [(Drop(Part(path, type(module)), rate, draw), module)]
            return [(Inert(part, passes=True), module), *inside]
        if kind == "drop":
            rate = next((name for name in _RATES if name in module.__dict__), "")
            draw = rate and self._once(("draw", type(module), rate), lambda: trial.drop_draw(module, rate))
            return [(Drop(Part(path, type(module)), rate, draw or "module"), module)]
        if kind is None:
            if module._modules:
                return None
            raise Unreadable(f"{_text(module, path)} is no layer that a fused op knows")
        return [(Activation(kind, part), module), *inside]

    def _scale(self, module: nn.Module, path: Path) -> Scale | None:
        if module._modules or module._buffers or len(module._parameters) != 1:
            return None
        ((name, parameter),) = module._parameters.items()
        if parameter is None or parameter.dim() != 1 or not trial.is_channel_scale(module, name):
            return None
        return Scale(Part(path, type(module), settings(module)), name)

    def squeeze_excite(self, module: nn.Module, path: Path) -> GateProgram | None:
        """The squeeze-excite that a module is, or None. Parts get paths from the root of ``path``."""
        if sum(1 for _ in module.modules()) > 12:
            return None
        try:
            inside = [pair for name, child in module._modules.items() for pair in self.leaves(child, (*path, name))]
        except Unreadable:
            return None
        maps = [(leaf, m) for leaf, m in inside if isinstance(leaf, (Conv, Matrix))]
        if len(maps) != 2 or any(isinstance(leaf, (Norm, Scale, Drop, GateProgram)) for leaf, _ in inside):
            return None
        if not squeezes(maps[0][1], maps[1][1]):
            return None
        acts = [leaf for leaf, _ in inside if isinstance(leaf, Activation)]
        around = [Part(path, type(module), settings(module))] if path else []
        around += [leaf.part for leaf, _ in inside if isinstance(leaf, Inert)]
        reduce, expand = (leaf.part for leaf, _ in maps)
        if not path:
            around.append(Part((), type(module), settings(module)))
        for act, gate in gate_functions(acts):
            found = GateProgram(reduce, expand, act, gate, tuple(around))
            key = ("gate", type(module), settings(module), act.name, gate.name, type(maps[0][1]))
            if self._once(key, lambda found=found: _computes(module, found, len(path))):
                return found
        return None

    def _once(self, key: tuple, run: object) -> object:
        if key not in self._trials:
            self._trials[key] = run()
        return self._trials[key]


def gate_functions(acts: list[Activation]) -> list[tuple[Activation, Activation]]:
    """What activation and gate of a squeeze-excite may be, given the modules found in it; likeliest first."""
    gates = [act for act in acts if act.name in GATES] or [Activation(name) for name in GATES]
    inner = [act for act in acts if act.name in ACTIVATIONS] or [Activation(name) for name in ACTIVATIONS[1:]]
    return [(act, gate) for gate in gates for act in inner]


def squeezes(reduce: nn.Module, expand: nn.Module) -> bool:
    """Whether two linear maps of channels fit one behind the other as C -> R -> C."""
    sizes = []
    for module in (reduce, expand):
        if isinstance(module, nn.Linear):
            sizes.append((module.in_features, module.out_features))
        elif module.kernel_size == (1, 1) and module.groups == 1 and module.stride == (1, 1):
            sizes.append((module.in_channels, module.out_channels))
        else:
            return False
    return sizes[0] == sizes[1][::-1]


def _computes(module: nn.Module, program: GateProgram, depth: int) -> bool:
    twin = trial.trial_copy(module)
    program = retarget(program, depth)
    reduce = twin.get_submodule(program.reduce.name)
    channels = reduce.in_features if isinstance(reduce, nn.Linear) else reduce.in_channels

    def check() -> None:
        for training in (False, True):
            twin.train(training)
            for size in ((3, 4), (1, 1)):
                x = torch.randn(2, channels, *size, dtype=torch.float64)
                with backend("reference"):
                    actual = run(twin, program, x, FoldCache())
                trial.assert_same(actual, twin(x.clone()), "it")

    with torch.no_grad():
        return trial.agrees(check)


def _kind_of(module: nn.Module) -> str | None:
    """ "identity", the name of an activation or gate, "drop" for what is an identity in eval alone, or None."""
    known = ACT_TYPES.get(type(module))
    if known is not None:
        return known
    if isinstance(module, nn.modules.dropout._DropoutNd) and module.p > 0:
        return "drop"
    name = trial.function_name(module)
    if name is None and trial.is_identity_in_eval(module):
        return "drop"
    return name


def _holds_tensors(module: nn.Module) -> bool:
    return next(module.parameters(), None) is not None or next(module.buffers(), None) is not None


def _function_settings(module: nn.Module) -> tuple:
    return () if type(module) in ACT_TYPES else settings(module)


_TORCH_SETTINGS = frozenset(name for name, _ in settings(nn.Conv2d(1, 1, 1))) | frozenset(
    name for name, _ in settings(nn.BatchNorm2d(1))
)


def own_settings(module: nn.Module) -> tuple:
    """Settings that torch's module of this kind does not have."""
    return tuple((name, value) for name, value in settings(module) if name not in _TORCH_SETTINGS)


def _text(module: nn.Module, path: Path) -> str:
    return f"{'.'.join(path) or 'it'} ({type(module).__name__})"
