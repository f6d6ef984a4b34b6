"""Batch norm folded into the convolution before it, once, and again whenever a weight has changed.

In eval a convolution and its batch norm are one affine map (:mod:`effops.ops.folding`). The folded weights are no part
of a module's state: ``state_dict``, ``deepcopy`` and pickles hold the unfolded ones alone.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TypeVar

import torch
from torch import Tensor, nn

from effops.ops import folding
from effops.ops.functional import kernel_layout

from .plain import CONVS, NORMS, is_plain
from .prepared import PreparedCalls

Folded = tuple[Tensor, Tensor | None]

# Stands for a bias or an affine part that a module does not have.
_ABSENT = torch.empty(0)


def fold_batch_norm(conv: nn.Conv2d, bn: nn.Module | None, scale: Tensor | None = None) -> Folded:
    """Weight and bias of the convolution that computes ``scale * bn(conv(x))`` in eval, in the kernels' layout.

    Args:
        bn: a batch norm with running statistics, or None.
        scale: (O,) or None: layer scale.
    """
    weight, bias = conv.weight, conv.bias
    if bn is not None:
        weight, bias = folding.fold_batch_norm(
            weight, bias, bn.running_mean, bn.running_var, bn.weight, bn.bias, bn.eps
        )
    if scale is not None:
        weight = weight * scale.view(-1, 1, 1, 1)
        bias = None if bias is None else bias * scale
    return kernel_layout(weight), bias


class _Entry:
    """Folded weights with their sources, held so that no id and no address is used again."""

    __slots__ = ("folded", "sources", "stamp")

    def __init__(self, stamp: tuple, sources: tuple, folded: Folded) -> None:
        self.stamp = stamp
        self.sources = sources
        self.folded = folded


class _Keeping(threading.local):
    """Whether this thread's calls keep what they fold."""

    on: bool = True


_keeping = _Keeping()


@contextmanager
def folding_anew() -> Iterator[None]:
    """Let this thread's calls fold without keeping: whoever packs the folded weights needs them once."""
    before, _keeping.on = _keeping.on, False
    try:
        yield
    finally:
        _keeping.on = before


class FoldCache:
    """Folded weights of one module's convolutions, by the convolution's name. A copy or a pickle is empty.

    Attributes:
        calls: what has been prepared with them.
    """

    __slots__ = ("_entries", "calls")

    def __init__(self) -> None:
        self._entries: dict[str, _Entry] = {}
        self.calls = PreparedCalls()

    def __deepcopy__(self, memo: dict) -> FoldCache:
        return FoldCache()

    def __reduce__(self) -> tuple:
        return FoldCache, ()

    def clear(self) -> None:
        self._entries.clear()
        self.calls.clear()

    def get(
        self, name: str, conv: nn.Module, bn: nn.Module | None, scale: Tensor | None = None, *, vouched: bool = False
    ) -> Folded | None:
        """Folded weights that are up to date, or None where this pair cannot be folded.

        It cannot while the batch norm is in training mode or keeps no statistics, when either module is not
        the plain torch one (replaced, parametrized, quantized), or has hooks, which folding would pass by;
        unless the caller has ``vouched`` for them.

        A change is seen by the tensors' identity, version counter and address. Edits through ``tensor.data``
        leave no such trace; ``train()`` and ``eval()`` drop what was folded.
        """
        if not _can_fold(conv, bn, vouched):
            return None
        tensors = tensors_of(conv, bn, scale)
        if torch.compiler.is_compiling() or (torch.is_grad_enabled() and _any_requires_grad(tensors)):
            return fold_batch_norm(conv, bn, scale)
        stamp = _stamp(*tensors, 0.0 if bn is None else bn.eps) if _keeping.on else None
        if stamp is None:
            return fold_batch_norm(conv, bn, scale)
        entry = self._entries.get(name)
        if entry is None or entry.stamp != stamp:
            # An inference tensor in the cache could not be used by a later call that records gradients of its
            # input.
            with torch.inference_mode(False), torch.no_grad():
                folded = fold_batch_norm(conv, bn, scale)
            sources = (tensors, tuple(tensor.detach() for tensor in tensors))
            entry = self._entries[name] = _Entry(stamp, sources, folded)
        return entry.folded


def _can_fold(conv: nn.Module, bn: nn.Module | None, vouched: bool) -> bool:
    if not (vouched or is_plain(conv, CONVS)):
        return False
    if bn is None:
        return True
    return (vouched or is_plain(bn, NORMS)) and not bn.training and bn._buffers["running_mean"] is not None


def tensors_of(conv: nn.Module, bn: nn.Module | None, scale: Tensor | None) -> tuple[Tensor, ...]:
    """What the folded weights depend on. Read from dictionaries: attribute access is ten times slower."""
    parameters = conv._parameters
    weight, bias = parameters["weight"], parameters["bias"]
    if bias is None:
        bias = _ABSENT
    if scale is None:
        scale = _ABSENT
    if bn is None:
        return weight, bias, scale, _ABSENT, _ABSENT, _ABSENT, _ABSENT, _ABSENT
    parameters, buffers = bn._parameters, bn._buffers
    gamma, beta = parameters["weight"], parameters["bias"]
    return (
        weight,
        bias,
        scale,
        _ABSENT if gamma is None else gamma,
        _ABSENT if beta is None else beta,
        buffers["running_mean"],
        buffers["running_var"],
        # Batch norm in training updates its statistics without raising their version; this one it raises.
        buffers["num_batches_tracked"],
    )


def _any_requires_grad(tensors: tuple[Tensor, ...]) -> bool:
    return any(tensor.requires_grad for tensor in tensors)


def _stamp(
    w: Tensor, c: Tensor, s: Tensor, g: Tensor, b: Tensor, m: Tensor, v: Tensor, n: Tensor, eps: float
) -> tuple | None:
    """What changes when a tensor is replaced (id), edited (version) or given new data (address). None: unknown.

    Written out because it runs for every layer of every call: a loop takes twice as long.
    """
    try:
        # fmt: off
        return (
            eps, id(s), s._version, s.data_ptr(),
            id(w), w._version, w.data_ptr(), id(c), c._version, c.data_ptr(),
            id(g), g._version, g.data_ptr(), id(b), b._version, b.data_ptr(),
            id(m), m._version, m.data_ptr(), id(v), v._version, v.data_ptr(),
            id(n), n._version, n.data_ptr(),
        )
        # fmt: on
    except RuntimeError:
        # Inference tensors have no version, fake and functorch tensors no address.
        return None


class FoldingModule(nn.Module):
    """Base of modules that fold their batch norms in eval, and run as a chain of raw convolutions in training.

    Attributes:
        memory: what is kept for the backward pass; see :func:`effops.nn.set_memory`.
    """

    memory: str = "default"

    def __init__(self) -> None:
        super().__init__()
        self._folds = FoldCache()

    def train(self: _Self, mode: bool = True) -> _Self:
        self._folds.clear()
        return super().train(mode)


_Self = TypeVar("_Self", bound=FoldingModule)
