"""A block in eval with everything but its input decided: the calls of kernels, and all that they were decided from.

Looking at every module, folding, checking shapes and choosing a backend takes Python longer than the kernels of a small
map take. What came out of it stands until one of the things that it came from has changed; whether one has is a few
comparisons.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass
from operator import attrgetter, is_
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from effops.ops import backends, extension
from effops.ops.backends import Call

_versions = attrgetter("_version")
_pointers = Tensor.data_ptr
_HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
# What an eval call of effops' own modules reads of them beside their tensors.
SETTINGS = ("act", "gate", "has_residual", "stride", "padding", "dilation", "eps")


class _SnapshotInPython:
    """What the kernels' module has as ``Snapshot``, in several times its time."""

    def __init__(
        self,
        owners: tuple[dict, ...],
        keys: tuple[str, ...],
        objects: tuple,
        modules: tuple[nn.Module, ...],
        empty: tuple[dict, ...],
        tensors: tuple[Tensor, ...],
        version: object = Tensor._version,
        address: object = Tensor.data_ptr,
    ) -> None:
        self._owners, self._keys, self._objects = owners, keys, objects
        self._modules, self._types, self._empty = modules, list(map(type, modules)), empty
        self._tensors = tensors
        self._versions = list(map(_versions, tensors))
        self._pointers = list(map(_pointers, tensors))

    def holds(self) -> bool:
        """Whether every dictionary holds that very object under that key, or nothing for None, and so on."""
        return (
            all(map(is_, map(dict.get, self._owners, self._keys), self._objects))
            and list(map(type, self._modules)) == self._types
            and not any(self._empty)
            and list(map(_versions, self._tensors)) == self._versions
            and list(map(_pointers, self._tensors)) == self._pointers
        )


_Snapshot = _SnapshotInPython if extension.module is None else extension.module.Snapshot


class State:
    """A snapshot: which modules there are, their tensors, settings and hooks.

    Attributes:
        snapshot: compares them, as :meth:`holds` does.
    """

    __slots__ = ("_held", "snapshot")

    def __init__(
        self,
        root: nn.Module,
        modules: Sequence[nn.Module],
        tensors: Sequence[Tensor],
        settings: Callable[[nn.Module], Iterable[str]] = lambda module: SETTINGS,
    ) -> None:
        """Of ``modules``, which lie in ``root``, and of the tensors that a call reads.

        Args:
            settings: names of the attributes that decide what a module computes.

        Raises:
            RuntimeError: a tensor has no version or no address: it was made in inference mode, or is not real.
        """
        places: list[tuple[dict, str, object]] = []
        for name, child in root._modules.items():
            if any(child is module for module in modules):
                places.append((root._modules, name, child))
        for module in modules:
            for held in (module._modules, module._parameters, module._buffers):
                places += ((held, name, value) for name, value in held.items())
            places.append((module.__dict__, "training", False))
        for module in (root, *modules):
            own = module.__dict__
            places += ((own, name, own[name]) for name in settings(module) if name in own)
            places.append((own, "forward", None))
        # Each dictionary once.
        places.sort(key=lambda place: id(place[0]))
        modules, tensors = tuple(modules), tuple(tensor for tensor in tensors if tensor.numel())
        hooks = tuple(getattr(module, name) for module in modules for name in _HOOKS)
        # The snapshot itself keeps nothing alive, so that the collector sees what is held.
        self._held = places, modules, tuple(map(type, modules)), hooks, tensors
        given = zip(*places, strict=True)
        self.snapshot = _Snapshot(*given, modules, hooks, tensors, Tensor._version, Tensor.data_ptr)

    def holds(self) -> bool:
        """Whether everything is as it was."""
        return self.snapshot.holds()


class PreparedCall(Protocol):
    """Something that runs in place of a module for inputs of one shape."""

    shape: torch.Size
    state: State

    def fits(self, x: Tensor) -> bool: ...

    def run(self, x: Tensor) -> Any: ...


class Prepared:
    """The kernel calls of one block for inputs of one shape."""

    __slots__ = ("_device", "_dtype", "_forced", "_result", "_steps", "_stride", "shape", "state")

    def __init__(self, x: Tensor, steps: list, result: int, state: State) -> None:
        self.shape, self._stride, self._dtype, self._device = x.shape, x.stride(), x.dtype, x.device
        self._steps, self._result, self.state = steps, result, state
        self._forced = backends.forced()

    def fits(self, x: Tensor) -> bool:
        """Whether it was prepared for an input of its shape that lies so, and for this backend."""
        return (
            x.stride() == self._stride
            and x.dtype is self._dtype
            and x.device == self._device
            and backends.forced() is self._forced
        )

    def run(self, x: Tensor) -> Tensor:
        values = [x]
        for function, given, places in self._steps:
            arguments = list(given)
            for position, index in places:
                arguments[position] = values[index]
            outputs = function(*arguments)
            values += outputs if isinstance(outputs, tuple) else (outputs,)
        return values[self._result]


def may_prepare(x: object) -> bool:
    """Whether calls on such an input may be prepared: nothing that watches, records or changes them is at work."""
    return (
        type(x) is Tensor
        and not torch.compiler.is_compiling()
        and not torch.is_grad_enabled()
        and not torch.is_autocast_enabled("cpu" if x.is_cpu else x.device.type)
        and not backends.intercepted()
        and not torch._C._are_functorch_transforms_active()
        and not torch._C._len_torch_dispatch_stack()
    )


# Shapes that are prepared for when they come first, and how many are in all: inputs that never come again are not worth
# it, and networks that see many sizes see most of them more than once.
_AT_ONCE, _SHAPES = 4, 64


class PreparedCalls:
    """The prepared calls of one module, by the key of a sequence of units and the shape of its input."""

    __slots__ = ("_calls", "_seen")

    def __init__(self) -> None:
        self._calls: dict[Hashable, dict[torch.Size, PreparedCall]] = {}
        self._seen: dict[Hashable, set[torch.Size]] = {}

    def __len__(self) -> int:
        return sum(map(len, self._calls.values()))

    def clear(self) -> None:
        self._calls.clear()
        self._seen.clear()

    def run(self, key: Hashable, x: Tensor) -> Tensor | None:
        """The result of the call that was prepared for such an input, if it still stands."""
        prepared = self.get(key, x) if key in self._calls and may_prepare(x) else None
        return None if prepared is None else prepared.run(x)

    def get(self, key: Hashable, x: Tensor) -> PreparedCall | None:
        """The call that was prepared for such an input, if it still stands."""
        prepared = self.find(key, x)
        return None if prepared is None or self.state(key) is None else prepared

    def find(self, key: Hashable, x: Tensor) -> PreparedCall | None:
        """The call that was prepared for such an input, whether it still stands or not."""
        prepared = self._calls.get(key, {}).get(x.shape)
        return prepared if prepared is not None and prepared.fits(x) else None

    def drop(self, key: Hashable) -> None:
        """Forget the calls of a key: what they were decided from has changed."""
        self._calls.pop(key, None)

    def wants(self, key: Hashable, x: object) -> bool:
        """Whether a call that could not be taken from here should be prepared for the next time."""
        if not may_prepare(x):
            return False
        known, seen = self._calls.get(key, ()), self._seen.setdefault(key, set())
        if len(known) < _AT_ONCE or x.shape in known or x.shape in seen:
            return True
        if len(seen) == _SHAPES:
            seen.clear()
        seen.add(x.shape)
        return False

    def state(self, key: Hashable) -> State | None:
        """What all calls of a key were decided from, whatever their shape; when it has changed, they go."""
        known = self._calls.get(key)
        if not known:
            return None
        state = next(iter(known.values())).state
        if not state.holds():
            self.drop(key)
            return None
        return state

    def keep(self, key: Hashable, prepared: PreparedCall) -> None:
        known = self._calls.setdefault(key, {})
        if len(known) >= _SHAPES:
            known.pop(next(iter(known)), None)
        known[prepared.shape] = prepared


@dataclass(frozen=True)
class Ran:
    """A call that was run: its input, its output, and the kernel calls between them, in order."""

    x: Tensor
    y: Tensor
    calls: Sequence[Call]


def prepare(ran: Ran, constants: Iterable[Tensor], state: State) -> Prepared | None:
    """What gave ``ran.y`` from ``ran.x``, to be run again; None where something else than its calls was needed.

    Args:
        constants: tensors that do not depend on x.
    """
    fixed = {tensor.untyped_storage().data_ptr() for tensor in constants}
    index_of = {id(ran.x): 0}
    steps: list[tuple[Callable, tuple[Any, ...], tuple[tuple[int, int], ...]]] = []
    for call in ran.calls:
        if call.backend.namespace is None:
            return None
        places = []
        for position, argument in enumerate(call.args):
            if not isinstance(argument, Tensor):
                continue
            if id(argument) in index_of:
                places.append((position, index_of[id(argument)]))
            elif argument.untyped_storage().data_ptr() not in fixed:
                return None
        moving = {position for position, _ in places}
        given = tuple(None if position in moving else argument for position, argument in enumerate(call.args))
        steps.append((call.op.overload_in(call.backend.namespace), given, tuple(places)))
        for output in call.outputs if isinstance(call.outputs, tuple) else (call.outputs,):
            index_of[id(output)] = len(index_of)
    return Prepared(ran.x, steps, index_of[id(ran.y)], state) if id(ran.y) in index_of else None
