"""A traced forward, made ready to run again: a few calls of plans, and of torch where no kernel serves."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import TreeSpec, tree_flatten, tree_unflatten

from effops.nn.prepared import State
from effops.ops import backends, extension

from .trace import NotOneCall, Segment, TorchCall, Trace, replaced, storage
from .weights import Weights


@dataclass(frozen=True, slots=True)
class _Index:
    """Stands for a value of the run among the arguments of a call."""

    value: int


@dataclass(frozen=True, slots=True)
class KernelStep:
    """A run of a plan.

    Attributes:
        plan: of csrc/cpu/plan.h.
        inputs: places among the values, or tensors that do not depend on the input.
        outputs: place, shape, strides and dtype of each.
        frees: places of values that nothing reads any more.
    """

    plan: Any
    inputs: tuple[int | Tensor, ...]
    outputs: tuple[tuple[int, tuple[int, ...], tuple[int, ...], torch.dtype], ...]
    frees: tuple[int, ...]

    @property
    def reads_values_only(self) -> bool:
        """Whether all that it reads beside weights are values of the run."""
        return all(type(i) is int for i in self.inputs)

    def run(self, values: list) -> None:
        self.plan.run(self._addresses(values))
        self._free(values)

    def run_beside(self, values: list, state: State) -> bool:
        """Run, and whether all is as it was, which this thread looks at meanwhile; if not, the values are worthless.

        Only where no memory may be gone that it reads: weights are packed, or where they were.
        """
        holds = self.plan.run_beside(self._addresses(values), state.snapshot)
        self._free(values)
        return holds

    def _free(self, values: list) -> None:
        for place in self.frees:
            values[place] = None

    def _addresses(self, values: list) -> list[int]:
        addresses = [(values[i] if type(i) is int else i).data_ptr() for i in self.inputs]
        for place, shape, stride, dtype in self.outputs:
            values[place] = made = torch.empty_strided(shape, stride, dtype=dtype)
            addresses.append(made.data_ptr())
        return addresses


@dataclass(frozen=True, slots=True)
class TorchStep:
    """A call of torch."""

    function: Callable
    args: tuple
    kwargs: dict[str, Any]
    outputs: tuple[int, ...]
    frees: tuple[int, ...]

    def run(self, values: list) -> None:
        args, kwargs = _filled(self.args, values), _filled(self.kwargs, values)
        result = self.function(*args, **kwargs)
        made = [leaf for leaf in tree_flatten(result)[0] if isinstance(leaf, Tensor)]
        for place, tensor in zip(self.outputs, made, strict=True):
            values[place] = tensor
        for place in self.frees:
            values[place] = None


def _filled(given: Any, values: list) -> Any:
    if isinstance(given, _Index):
        return values[given.value]
    if isinstance(given, (list, tuple)):
        return type(given)(_filled(one, values) for one in given)
    if isinstance(given, dict):
        return {key: _filled(one, values) for key, one in given.items()}
    return given


class Tape:
    """The forward of a network for inputs of one shape.

    Attributes:
        shape: of the input.
        state: a snapshot of all that the forward was decided from.
        steps: what runs, in order.
    """

    __slots__ = (
        "_count",
        "_dtype",
        "_forced",
        "_isa",
        "_leaves",
        "_spec",
        "_stride",
        "_weights",
        "shape",
        "state",
        "steps",
    )

    def __init__(
        self,
        x: Tensor,
        steps: Sequence[KernelStep | TorchStep],
        count: int,
        leaves: Sequence[Any],
        spec: TreeSpec,
        state: State,
        weights: Weights,
    ) -> None:
        self._weights = weights
        self.shape, self._stride, self._dtype = x.shape, x.stride(), x.dtype
        self.steps, self._count, self._leaves, self._spec, self.state = tuple(steps), count, tuple(leaves), spec, state
        self._forced, self._isa = backends.forced(), extension.module.isa()

    def fits(self, x: Tensor) -> bool:
        """Whether it was made for an input of its shape that lies so, for this backend and these kernels."""
        return (
            x.stride() == self._stride
            and x.dtype is self._dtype
            and x.is_cpu
            and backends.forced() is self._forced
            and extension.module.isa() == self._isa
        )

    def run(self, x: Tensor) -> Any:
        return self._result(self._start(x), self.steps)

    def run_if_state_holds(self, x: Tensor) -> tuple[bool, Any]:
        """Whether all is as it was, and the result if so."""
        values, steps = self._start(x), self.steps
        first = steps[0] if steps else None
        if type(first) is KernelStep and first.reads_values_only and self._weights.lent_holds():
            holds, steps = first.run_beside(values, self.state), steps[1:]
        else:
            holds = self.state.holds()
        return (True, self._result(values, steps)) if holds else (False, None)

    def _start(self, x: Tensor) -> list:
        values: list = [None] * self._count
        values[0] = x
        return values

    def _result(self, values: list, steps: Sequence[KernelStep | TorchStep]) -> Any:
        for step in steps:
            step.run(values)
        leaves = [values[leaf.value] if isinstance(leaf, _Index) else leaf for leaf in self._leaves]
        return leaves[0] if self._spec.is_leaf() else tree_unflatten(leaves, self._spec)


def record(forward: Callable[[Tensor], Any], x: Tensor, weights: Weights, state: State) -> Tape:
    """Run a forward, which records no gradients, and make a tape of it.

    Args:
        weights: keeps what the kernels read.
        state: what the forward is decided from.

    Raises:
        NotOneCall: it cannot become one, or no kernel ran.
    """
    with Trace(x, weights) as trace:
        result = forward(x)
    leaves, spec = tree_flatten(result)
    if any(isinstance(leaf, Tensor) and not trace.moves(leaf) for leaf in leaves):
        raise NotOneCall("an output does not depend on the input")
    if not any(isinstance(item, Segment) for item in trace.items):
        raise NotOneCall("no part of it runs on effops' CPU kernels")
    return _Assembly(trace, x).tape(x, leaves, spec, state, weights)


class _Assembly:
    """Values get places; what nothing needs is left out."""

    def __init__(self, trace: Trace, x: Tensor) -> None:
        self._trace, self._images = trace, len(x) if x.dim() else 1
        self._places: dict[int, int] = {id(x): 0}

    def tape(self, x: Tensor, leaves: list, spec: TreeSpec, state: State, weights: Weights) -> Tape:
        needed = {id(leaf) for leaf in leaves if isinstance(leaf, Tensor)}
        stays = set(needed) | {id(x)}
        kept: list[tuple[Segment | TorchCall, list[Tensor], list[int]]] = []
        for item in reversed(self._trace.items):
            made = item.makes if isinstance(item, Segment) else item.outputs
            wanted = [tensor for tensor in made if id(tensor) in needed]
            pure = isinstance(item, Segment) or not item.function._schema.is_mutable
            if pure and not wanted:
                continue
            reads = [tensor for tensor in self._reads(item) if self._trace.moves(tensor)]
            last = dict.fromkeys(id(tensor) for tensor in reads if id(tensor) not in needed)
            needed |= last.keys()
            kept.append((item, wanted, [key for key in last if key not in stays]))
        steps = [self._step(*found) for found in reversed(kept)]
        places = [_Index(self._place(leaf)) if isinstance(leaf, Tensor) else leaf for leaf in leaves]
        return Tape(x, steps, len(self._places), places, spec, state, weights)

    def _reads(self, item: Segment | TorchCall) -> list[Tensor]:
        return list(item.reads if isinstance(item, Segment) else item.tensors())

    def _place(self, tensor: Tensor) -> int:
        return self._places.setdefault(id(tensor), len(self._places))

    def _step(self, item: Segment | TorchCall, wanted: list[Tensor], last: list[int]) -> KernelStep | TorchStep:
        if isinstance(item, Segment):
            return self._kernel_step(item, wanted, last)

        def stand_in(tensor: Tensor) -> Any:
            return _Index(self._place(tensor)) if self._trace.moves(tensor) else tensor

        args, kwargs = replaced(item.args, stand_in), replaced(item.kwargs, stand_in)
        # What changes an argument returns it: its place is known already.
        outputs = tuple(self._place(tensor) for tensor in item.outputs)
        return TorchStep(item.function, args, kwargs, outputs, tuple(self._places[key] for key in last))

    def _kernel_step(self, segment: Segment, wanted: list[Tensor], last: list[int]) -> KernelStep:
        inputs = {id(tensor): tensor for tensor in segment.reads}
        outside = [(t.data_ptr(), t.untyped_storage().nbytes() - _offset(t)) for t in (*inputs.values(), *wanted)]
        try:
            segment.plan.finish(outside, self._images)
        except RuntimeError as error:
            raise NotOneCall(str(error)) from error
        places = [self._place(t) if self._trace.moves(t) else t for t in inputs.values()]
        outputs = [(self._place(t), tuple(t.shape), t.stride(), t.dtype) for t in wanted]
        return KernelStep(segment.plan, tuple(places), tuple(outputs), tuple(self._places[key] for key in last))


def _offset(tensor: Tensor) -> int:
    return tensor.data_ptr() - storage(tensor)
