"""Activations, gates and their derivatives in float32, by the codes of :mod:`effops.ops.spec`.

NaN passes through every one of them, as in torch. At the kinks the derivatives are torch's.
"""

import triton
import triton.language as tl

from ..spec import ACTIVATIONS, GATES

_RELU = tl.constexpr(ACTIVATIONS.index("relu"))
_RELU6 = tl.constexpr(ACTIVATIONS.index("relu6"))
_SILU = tl.constexpr(ACTIVATIONS.index("silu"))
_HARDSWISH = tl.constexpr(ACTIVATIONS.index("hardswish"))
_GELU = tl.constexpr(ACTIVATIONS.index("gelu"))
_SIGMOID = tl.constexpr(GATES.index("sigmoid"))
_ALL = tl.constexpr(tl.PropagateNan.ALL)


@triton.jit
def _relu(x):
    return tl.maximum(x, 0.0, propagate_nan=_ALL)


@triton.jit
def _relu6(x):
    return tl.minimum(_relu(x), 6.0, propagate_nan=_ALL)


@triton.jit
def _sigmoid(x):
    return 1.0 / (1.0 + tl.exp(-x))


@triton.jit
def _gelu_cdf(x):
    """The normal distribution function, exact up to erf."""
    return 0.5 * (1.0 + tl.erf(x * 0.7071067811865476))


@triton.jit
def activate(x, ACT: tl.constexpr):
    """The activation with this code."""
    y = x
    if ACT == _RELU:
        y = _relu(x)
    elif ACT == _RELU6:
        y = _relu6(x)
    elif ACT == _SILU:
        y = x / (1.0 + tl.exp(-x))
    elif ACT == _HARDSWISH:
        y = x * _relu6(x + 3.0) * (1.0 / 6.0)
    elif ACT == _GELU:
        y = x * _gelu_cdf(x)
    return y


@triton.jit
def value_and_slope(x, ACT: tl.constexpr):
    """The activation with this code and its derivative, which share most of their work."""
    y = x
    slope = tl.full(x.shape, 1.0, tl.float32)
    if ACT == _RELU:
        y = _relu(x)
        slope = tl.where(x > 0.0, 1.0, 0.0)
    elif ACT == _RELU6:
        y = _relu6(x)
        slope = tl.where((x > 0.0) & (x < 6.0), 1.0, 0.0)
    elif ACT == _SILU:
        s = _sigmoid(x)
        y = x * s
        slope = s + y * (1.0 - s)
    elif ACT == _HARDSWISH:
        y = x * _relu6(x + 3.0) * (1.0 / 6.0)
        slope = tl.where(x <= -3.0, 0.0, tl.where(x < 3.0, x * (1.0 / 3.0) + 0.5, 1.0))
    elif ACT == _GELU:
        cdf = _gelu_cdf(x)
        y = x * cdf
        slope = cdf + x * 0.3989422804014327 * tl.exp(-0.5 * x * x)
    return y, slope


@triton.jit
def gate_value(x, GATE: tl.constexpr):
    """The gate with this code."""
    return _sigmoid(x) if GATE == _SIGMOID else _relu6(x + 3.0) * (1.0 / 6.0)


@triton.jit
def gate_slope(y, GATE: tl.constexpr):
    """The derivative of the gate with this code where its value is y."""
    return y * (1.0 - y) if GATE == _SIGMOID else tl.where((y > 0.0) & (y < 1.0), 1.0 / 6.0, 0.0)
