"""One forward of a network, as the calls that torch's dispatcher saw.

Calls of CPU kernels in a row are recorded into a plan (csrc/cpu/plan.h), which leaves their results unwritten: values
mean nothing in a trace. What else is called stays a call of torch, and what does not depend on the input is not run
again.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

from effops.ops import extension

from . import natives
from .weights import Weights

_BY_VALUES = torch.Tag.data_dependent_output, torch.Tag.dynamic_output_shape


class NotOneCall(Exception):
    """Why a forward cannot become a tape."""


@dataclass(eq=False)
class Segment:
    """Kernel calls in a row.

    Attributes:
        plan: records them.
        reads: their operands from outside of the segment.
        makes: their results.
    """

    plan: Any
    reads: list[Tensor] = field(default_factory=list)
    makes: list[Tensor] = field(default_factory=list)

    def __contains__(self, tensor: Tensor) -> bool:
        return any(made is tensor for made in self.makes)


@dataclass(eq=False)
class TorchCall:
    """A call that torch runs.

    Attributes:
        function: overload of the operator.
        outputs: the tensors among its results.
        is_view: it computes nothing: its result is another view of its input.
    """

    function: Any
    args: tuple
    kwargs: dict[str, Any]
    outputs: list[Tensor]
    is_view: bool

    def tensors(self) -> Iterator[Tensor]:
        return (leaf for leaf in tree_leaves((self.args, self.kwargs)) if isinstance(leaf, Tensor))


def storage(tensor: Tensor) -> int:
    """What tells whether two tensors share memory."""
    return tensor.untyped_storage().data_ptr()


class Trace(TorchDispatchMode):
    """Records what runs inside of it on an input.

    Attributes:
        items: segments and calls of torch, in order.
        moving: by identity, the tensors that depend on the input. They are kept: no address is used twice.
    """

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """Torch would import its compiler, which takes seconds, to keep it away; nothing compiles inside of a trace."""
        return False

    def __init__(self, x: Tensor, weights: Weights) -> None:
        super().__init__()
        self.items: list[Segment | TorchCall] = []
        self.moving: dict[int, Tensor] = {id(x): x}
        self._weights = weights
        self._storages = {storage(x)}
        self._open: Segment | None = None
        # Views of what is outside of the open segment come before it, views of its results behind it.
        self._views: list[TorchCall] = []

    def __exit__(self, *exception: Any) -> None:
        super().__exit__(*exception)
        self._close()

    def __torch_dispatch__(self, function: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        kwargs = kwargs or {}
        given = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        self._check(function, args, kwargs, given)
        if function is torch.ops.aten.as_strided_.default and self._open is not None and args[0] in self._open:
            # Global pooling in channels_last. The strides of a kernel's result are read when all has run.
            return function(*args, **kwargs)
        if not any(map(self.moves, given)):
            return function(*args, **kwargs)
        if function.namespace == "effops":
            args = tuple(self._dense(arg) for arg in args)
        operands = natives.operands(function, args, kwargs, self.moves)
        if operands is not None:
            segment = self._segment(operands)
            result = natives.run(segment.plan, function, args, kwargs)
            self._weights.packed()
            if result is not None:
                self._made(result, segment.makes)
                return result
        result = function(*args, **kwargs)
        self._add(TorchCall(function, args, kwargs, self._made(result, []), self._is_view(result, given)))
        return result

    def moves(self, tensor: Any) -> bool:
        """Whether it depends on the input."""
        return id(tensor) in self.moving

    def _check(self, function: Any, args: tuple, kwargs: dict, given: list[Tensor]) -> None:
        if torch.Tag.nondeterministic_seeded in function.tags and not _without_dropout(function, args, kwargs):
            raise NotOneCall(f"{function} draws random numbers")
        if any(tag in function.tags for tag in _BY_VALUES) and any(map(self.moves, given)):
            raise NotOneCall(f"{function} makes what follows depend on values")
        for tensor in given:
            if not self.moves(tensor) and storage(tensor) in self._storages and tensor.numel():
                raise NotOneCall(f"{function} reads a tensor that was made outside of torch's dispatcher")
        for argument, value in zip(function._schema.arguments, args, strict=False):
            changes = argument.alias_info is not None and argument.alias_info.is_write
            if changes and isinstance(value, Tensor) and not self.moves(value):
                raise NotOneCall(f"{function} changes a tensor that is kept from call to call")

    def _made(self, result: Any, into: list[Tensor]) -> list[Tensor]:
        for leaf in tree_leaves(result):
            if isinstance(leaf, Tensor):
                into.append(leaf)
                self.moving[id(leaf)] = leaf
                self._storages.add(storage(leaf))
        return into

    def _is_view(self, result: Any, given: list[Tensor]) -> bool:
        return isinstance(result, Tensor) and storage(result) == storage(given[0]) and result is not given[0]

    def _dense(self, arg: Any) -> Any:
        """Images as the kernels read them: else a copy would be made where no plan sees it."""
        if not (isinstance(arg, Tensor) and arg.dim() == 4 and self.moves(arg)):
            return arg
        if arg.shape[1] <= natives.STEM_CHANNELS or arg.is_contiguous(memory_format=torch.channels_last):
            return arg
        dense = arg.contiguous(memory_format=torch.channels_last)
        call = torch.ops.aten.clone.default
        self._add(TorchCall(call, (arg,), {"memory_format": torch.channels_last}, self._made(dense, []), False))
        return dense

    def _segment(self, operands: list[Tensor]) -> Segment:
        if self._open is None:
            self._open = Segment(extension.module.Plan(self._weights.store))
        made = {storage(tensor) for tensor in self._open.makes}
        self._open.reads += [tensor for tensor in operands if storage(tensor) not in made]
        return self._open

    def _add(self, call: TorchCall) -> None:
        if self._open is not None and call.is_view:
            made = {storage(tensor) for tensor in self._open.makes}
            (self._views if storage(call.args[0]) in made else self.items).append(call)
            return
        self._close()
        self.items.append(call)

    def _close(self) -> None:
        if self._open is not None and self._open.makes:
            self.items += [self._open, *self._views]
        self._open, self._views = None, []


def _without_dropout(function: Any, args: tuple, kwargs: dict) -> bool:
    """Whether all that a call could draw is dropout, at rate 0: attention."""
    names = [argument.name for argument in function._schema.arguments]
    return "dropout_p" in names and (dict(zip(names, args, strict=False)) | kwargs).get("dropout_p", 0.0) == 0.0


def replaced(value: Any, function: Any) -> Any:
    """The value with every tensor inside of it replaced."""
    return tree_map(lambda leaf: function(leaf) if isinstance(leaf, Tensor) else leaf, value)
