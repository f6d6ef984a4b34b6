"""Which calls the plans of csrc/cpu run, and how they are recorded."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

_aten = torch.ops.aten
# The first convolution reads its image in any layout.
STEM_CHANNELS = 4
# Arguments of effops' ops that a plan takes from outside; all others are weights, which it packs.
_OPERANDS = ("x", "gate", "residual", "pooled")
_DTYPES = {torch.float32: "float32", torch.bfloat16: "bfloat16"}


def operands(function: Any, args: tuple, kwargs: dict, moves: Callable[[Any], bool]) -> list[Tensor] | None:
    """The tensors that a plan would read for this call beside weights, or None where torch has to run it."""
    if function.namespace == "effops":
        return _of_effops(function, args, moves)
    rule = _RULES.get(function)
    return None if rule is None else rule[0](args, kwargs, moves)


def run(plan: Any, function: Any, args: tuple, kwargs: dict) -> Any:
    """The call's result; the plan has recorded it. Of calls that have :func:`operands`."""
    if function.namespace != "effops":
        _, record, unwritten = _RULES[function]
        result = function(*args, **kwargs) if unwritten is None else unwritten(args, kwargs)
        record(plan, args, result)
        return result
    plan.start()
    try:
        return function(*args, **kwargs)
    finally:
        plan.stop()


def _of_effops(function: Any, args: tuple, moves: Callable[[Any], bool]) -> list[Tensor] | None:
    found = []
    for argument, value in zip(function._schema.arguments, args, strict=True):
        if not isinstance(value, Tensor):
            continue
        if value.device.type != "cpu" or value.dtype not in _DTYPES or value.numel() == 0:
            return None
        # mbconv's own gate is a code, no tensor.
        if argument.name in _OPERANDS:
            found.append(value)
        elif moves(value):
            return None
    return found


def _is_image(x: Tensor) -> bool:
    return x.dim() == 4 and x.numel() > 0 and x.is_contiguous(memory_format=torch.channels_last)


def _is_dense(x: Tensor) -> bool:
    return x.is_contiguous() or (x.dim() == 4 and x.is_contiguous(memory_format=torch.channels_last))


def _mean_operands(args: tuple, kwargs: dict, moves: Callable[[Any], bool]) -> list[Tensor] | None:
    x, axes = args[0], args[1]
    if x.dtype not in _DTYPES or kwargs.get("dtype") not in (None, torch.float32, x.dtype) or not _is_image(x):
        return None
    return [x] if axes is not None and sorted(axis % 4 for axis in axes) == [2, 3] else None


def _record_mean(plan: Any, args: tuple, result: Tensor) -> None:
    x = args[0]
    n, c, h, w = x.shape
    plan.mean(x.data_ptr(), result.data_ptr(), n, h * w, c, _DTYPES[x.dtype], _DTYPES[result.dtype])


def _convert_operands(args: tuple, kwargs: dict, moves: Callable[[Any], bool]) -> list[Tensor] | None:
    (x,) = args
    others = {name for name, value in kwargs.items() if value is not None and name != "dtype"}
    dtypes = {x.dtype, kwargs.get("dtype")}
    return [x] if not others and dtypes == set(_DTYPES) and x.numel() and _is_dense(x) else None


def _record_convert(plan: Any, args: tuple, result: Tensor) -> None:
    x = args[0]
    plan.convert(x.data_ptr(), result.data_ptr(), x.numel(), _DTYPES[x.dtype], _DTYPES[result.dtype])


def _unwritten_copy(args: tuple, kwargs: dict) -> Tensor:
    return torch.empty_like(args[0], dtype=kwargs["dtype"])


def _add_operands(args: tuple, kwargs: dict, moves: Callable[[Any], bool]) -> list[Tensor] | None:
    a, b = args
    if not (isinstance(a, Tensor) and isinstance(b, Tensor)) or kwargs.get("alpha", 1) != 1:
        return None
    same = a.shape == b.shape and a.stride() == b.stride() and a.dtype == b.dtype and a.dtype in _DTYPES
    return [a, b] if same and _is_image(a) else None


def _record_add(plan: Any, args: tuple, result: Tensor) -> None:
    a, b = args
    plan.add(a.data_ptr(), b.data_ptr(), result.data_ptr(), a.numel(), _DTYPES[a.dtype])


def _unwritten_sum(args: tuple, kwargs: dict) -> Tensor:
    return torch.empty_like(args[0])


def _linear_operands(args: tuple, kwargs: dict, moves: Callable[[Any], bool]) -> list[Tensor] | None:
    *bias, x, weight = args
    tensors = (x, weight, *bias)
    if kwargs or any(t.dtype not in _DTYPES or t.dtype != x.dtype or t.numel() == 0 for t in tensors):
        return None
    if moves(weight) or any(moves(t) or t.dim() != 1 or not t.is_contiguous() for t in bias):
        return None
    return [x] if moves(x) and x.is_contiguous() else None


def _record_linear(plan: Any, args: tuple, result: Tensor) -> None:
    *bias, x, weight = args
    rows, k = x.shape
    plan.linear(
        x.data_ptr(),
        weight.data_ptr(),
        bias[0].data_ptr() if bias else 0,
        result.data_ptr(),
        rows,
        weight.shape[1],
        k,
        weight.stride(1),
        weight.stride(0),
        _DTYPES[x.dtype],
    )


def _unwritten_product(args: tuple, kwargs: dict) -> Tensor:
    *_, x, weight = args
    return x.new_empty(x.shape[0], weight.shape[1])


# Operands, how a call is recorded, and what stands for its result: computing one would fill memory that nothing reads.
# A mean is small, and its strides are torch's to choose.
_RULES = {
    _aten.mean.dim: (_mean_operands, _record_mean, None),
    _aten._to_copy.default: (_convert_operands, _record_convert, _unwritten_copy),
    _aten.add.Tensor: (_add_operands, _record_add, _unwritten_sum),
    _aten.addmm.default: (_linear_operands, _record_linear, _unwritten_product),
    _aten.mm.default: (_linear_operands, _record_linear, _unwritten_product),
}
