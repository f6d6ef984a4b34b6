"""A module becomes a fused one by a change of its class, and nothing else.

Its class C becomes a subclass of C that runs a program where it may, and C's own forward where it may not. Everything
that belongs to the object stays: parameters, keys, hooks, attributes, its place in every parent that shares it.
"""

from __future__ import annotations

import copyreg
import functools
from collections.abc import Callable
from dataclasses import fields, is_dataclass, replace
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

from effops.nn.folding import FoldCache

from .program import ChainProgram, NetworkProgram, Part, Program, SequenceProgram, Step
from .run import run, runnable


class State:
    """What a fused module carries: its program, and folded weights, which copies and pickles leave behind."""

    __slots__ = ("folds", "program")

    def __init__(self, program: Program) -> None:
        self.program = program
        self.folds = FoldCache()

    def __deepcopy__(self, memo: dict) -> State:
        return State(self.program)

    def __reduce__(self) -> tuple:
        return State, (self.program,)


class FusedModule(nn.Module):
    """Base of the classes of fused modules.

    Attributes:
        memory: what is kept for the backward pass; see :func:`effops.nn.set_memory`.
    """

    memory: str = "default"
    # None in what the original class makes of itself, such as a slice of a nn.Sequential: it runs as the original.
    _effops: State | None = None
    _original: type[nn.Module]
    _mixin: type[FusedModule]
    _methods: tuple[str, ...]

    def train(self, mode: bool = True) -> nn.Module:
        if self._effops is not None:
            self._effops.folds.clear()
        return super().train(mode)

    def __reduce_ex__(self, protocol: Any) -> tuple:
        """As the original class does it; the fused class is made again from the original on the other side."""
        function, arguments, *rest = super().__reduce_ex__(protocol)
        if function is not copyreg.__newobj__:
            raise TypeError(
                f"{self._original.__name__} has a pickle protocol of its own: effops.unfuse the model first"
            )
        return _new, (self._original, self._mixin, self._methods, *arguments[1:]), *rest

    def _get_name(self) -> str:
        return f"{self._original.__name__}[effops]"


class FusedBlock(FusedModule):
    """A module that is one chain, batch norm or squeeze-excite."""

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        state = self._effops
        if state is not None:
            x, rate = _arguments(state.program, args, kwargs)
            if runnable(x):
                y = run(self, state.program, x, state.folds, self.memory, rate)
                if y is not None:
                    return y
        return super().forward(*args, **kwargs)


class FusedSequence(FusedModule):
    """A ``nn.Sequential`` some of whose items run together."""

    def forward(self, input: Any) -> Any:
        state = self._effops
        if state is None or tuple(self._modules) != state.program.names:
            return super().forward(input)
        for step in state.program.steps:
            input = _step(self, step, input, state.folds, self.memory)
        return input


class FusedNetwork(FusedModule):
    """A known network whose methods run modules of its own one after the other."""


class _View:
    """A network as its own methods see it, but for the modules that run together."""

    __slots__ = ("_network", "_stand_ins")

    def __init__(self, network: FusedNetwork, stand_ins: dict[str, Callable]) -> None:
        object.__setattr__(self, "_network", network)
        object.__setattr__(self, "_stand_ins", stand_ins)

    def __getattr__(self, name: str) -> Any:
        stand_in = self._stand_ins.get(name)
        return getattr(self._network, name) if stand_in is None else stand_in

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self._network, name, value)


def _pass_on(x: Tensor) -> Tensor:
    return x


def _in_view(method: Callable) -> Callable:
    @functools.wraps(method)
    def run_in_view(self: FusedNetwork, *args: Any, **kwargs: Any) -> Any:
        state = self._effops
        if state is None or torch.compiler.is_compiling():
            return method(self, *args, **kwargs)
        stand_ins: dict[str, Callable] = {}
        for step in state.program.pairs:
            together = functools.partial(_step, self, step, folds=state.folds, memory=self.memory)
            stand_ins |= {step.items[0]: together} | dict.fromkeys(step.items[1:], _pass_on)
        return method(_View(self, stand_ins), *args, **kwargs)

    return run_in_view


def _step(root: nn.Module, step: Step, x: Any, folds: FoldCache, memory: str) -> Any:
    if step.program is not None and runnable(x):
        y = run(root, step.program, x, folds, memory, inside=step.items)
        if y is not None:
            return y
    for name in step.items:
        x = root._modules[name](x)
    return x


def _arguments(program: Program, args: tuple, kwargs: dict[str, Any]) -> tuple[Any, float | None]:
    """The input and, where the forward takes it, the rate of stochastic depth; (None, None) for anything else."""
    if len(args) == 1 and not kwargs:
        return args[0], None
    if not isinstance(program, ChainProgram):
        return None, None
    drop = program.drop
    names = (program.argument,) if drop is None or drop.part is not None else (program.argument, drop.rate)
    if len(args) > len(names):
        return None, None
    given = dict(zip(names, args, strict=False)) | kwargs
    x = given.pop(program.argument, None)
    rate = given.pop(names[-1], None) if len(names) == 2 else None
    return (None, None) if given else (x, rate)


@cache
def fused_class(original: type[nn.Module], mixin: type[FusedModule], methods: tuple[str, ...] = ()) -> type[nn.Module]:
    """The subclass that modules of this class get. It keeps the name: whoever looks for it by name finds it."""
    names = {
        "__module__": original.__module__,
        "__qualname__": original.__qualname__,
        "__doc__": original.__doc__,
        "_original": original,
        "_mixin": mixin,
        "_methods": methods,
    }
    if not methods:
        # The same signature, for whoever looks at it: torch.export, tracers.
        names["forward"] = _with_signature(mixin.forward, original.forward)
    names |= {name: _in_view(getattr(original, name)) for name in methods}
    return type(original.__name__, (mixin, original), names)


def _with_signature(forward: Callable, original: Callable) -> Callable:
    def fused_forward(self: nn.Module, *args: Any, **kwargs: Any) -> Any:
        return forward(self, *args, **kwargs)

    return functools.wraps(original)(fused_forward)


def swap(module: nn.Module, program: Program) -> None:
    """Make a module run a program."""
    if isinstance(program, SequenceProgram):
        made = fused_class(type(module), FusedSequence)
    elif isinstance(program, NetworkProgram):
        made = fused_class(type(module), FusedNetwork, program.methods)
    else:
        made = fused_class(type(module), FusedBlock)
    module.__class__ = made
    module.__dict__["_effops"] = State(program)


def unswap(module: FusedModule) -> None:
    """Give a module its own class back."""
    module.__class__ = module._original
    module.__dict__.pop("_effops", None)
    module.__dict__.pop("memory", None)


def _new(original: type[nn.Module], mixin: type[FusedModule], methods: tuple[str, ...], *arguments: Any) -> nn.Module:
    made = fused_class(original, mixin, methods)
    return made.__new__(made, *arguments)


def retarget(program: Any, depth: int) -> Any:
    """The same program for a root that lies ``depth`` names further down."""
    if isinstance(program, Part):
        return replace(program, path=program.path[depth:])
    if isinstance(program, tuple):
        return tuple(retarget(one, depth) for one in program)
    if is_dataclass(program):
        changed = {field.name: retarget(getattr(program, field.name), depth) for field in fields(program)}
        return replace(program, **changed)
    return program
