"""What Triton 3.6's interpreter gets wrong, mended. Loaded with the kernels when ``TRITON_INTERPRET=1`` asks for it.

bfloat16: it cuts bits off instead of rounding to the nearest value, and multiplies matrices of the raw bits. NumPy: it
no longer takes an array of one value for an integer, the bound of a loop; and adds up the rows of a tile one after the
other, in a chain whose rounding errors no GPU has, which adds in a tree. Time: every call of a device function replaced
the functions of the language over again, which the kernel's call had done.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import triton.language as tl
from triton.runtime import interpreter
from triton.runtime.interpreter import InterpretedFunction, InterpreterBuilder, ReduceOps, TensorHandle

_cast_impl = InterpreterBuilder.cast_impl
_create_dot = InterpreterBuilder.create_dot
_patch_lang = interpreter._patch_lang
_patch_lang_tensor = interpreter._patch_lang_tensor


def _rounded_to_bfloat16(values: np.ndarray) -> np.ndarray:
    """The bits of the nearest bfloat16 values, ties to even."""
    bits = np.ascontiguousarray(values).view(np.uint32)
    nearest = (bits + np.uint32(0x7FFF) + ((bits >> 16) & 1)) >> 16
    return np.where(np.isnan(values), (bits >> 16) | 0x40, nearest).astype(np.uint16)


def _cast(self: InterpreterBuilder, source: TensorHandle, target: Any) -> TensorHandle:
    if source.dtype.scalar == tl.float32 and target.scalar == tl.bfloat16:
        return TensorHandle(_rounded_to_bfloat16(source.data), tl.bfloat16)
    return _cast_impl(self, source, target)


def _dot(self: InterpreterBuilder, a: TensorHandle, b: TensorHandle, *rest: Any) -> TensorHandle:
    if a.dtype.scalar == tl.bfloat16:
        a, b = _cast_impl(self, a, tl.float32), _cast_impl(self, b, tl.float32)
    return _create_dot(self, a, b, *rest)


def _patch_tensor(tensor: type, scope: Any) -> None:
    _patch_lang_tensor(tensor, scope)
    scope.set_attr(tensor, "__index__", lambda self: int(self.handle.data.item()))


def _sum(self: ReduceOps, input: Any) -> Any:
    # Along the last axis of contiguous memory NumPy adds pairwise.
    last = np.ascontiguousarray(np.moveaxis(input.handle.data, self.axis, -1)).sum(-1)
    return self.to_tensor(np.expand_dims(last, self.axis) if self.keep_dims else last, input.dtype)


def _patch_all(fn: Any) -> Any:
    return _patch_lang(SimpleNamespace(__globals__={"tl": tl, "core": tl.core}))


def _call(self: InterpretedFunction, *args: Any, **keywords: Any) -> Any:
    return self.rewrite()(*args, **keywords)


def mend() -> None:
    """Replace these functions of the interpreter in this process."""
    ReduceOps.sum = _sum
    InterpretedFunction.__call__ = _call
    interpreter._patch_lang = _patch_all
    InterpreterBuilder.cast_impl = _cast
    InterpreterBuilder.create_dot = _dot
    interpreter._patch_lang_tensor = _patch_tensor
