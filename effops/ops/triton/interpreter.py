"""What Triton 3.6's interpreter gets wrong, mended; loaded with the kernels when ``TRITON_INTERPRET=1`` asks for it.

bfloat16: it cuts bits off instead of rounding to the nearest value, and multiplies matrices of the raw bits. Bounds of
loops: it converts arrays of one value to int as NumPy 2.4 no longer does.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import triton.language as tl
from triton.runtime import interpreter
from triton.runtime.interpreter import InterpreterBuilder, TensorHandle

_cast_impl = InterpreterBuilder.cast_impl
_create_dot = InterpreterBuilder.create_dot
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


def mend() -> None:
    """Replace these functions of the interpreter in this process."""
    InterpreterBuilder.cast_impl = _cast
    InterpreterBuilder.create_dot = _dot
    interpreter._patch_lang_tensor = _patch_tensor
