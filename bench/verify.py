"""Is a provider right? Asked before it is timed: a fast wrong answer is not a result.

The error is the largest difference to the float64 result over the largest float64 value. A provider may err
twice as much as eager PyTorch in the same dtype, plus a floor of a few roundings.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

Outputs = Tensor | Sequence[Tensor]

_FLOOR = {torch.float32: 4e-6, torch.bfloat16: 8e-3, torch.float16: 1e-3}


@dataclass(frozen=True)
class Verdict:
    """The relative error of a provider, what it may be, and what is wrong when it is too much."""

    error: float
    allowed: float
    reason: str = ""

    @property
    def right(self) -> bool:
        return not self.reason


def _as_tuple(outputs: Outputs) -> tuple[Tensor, ...]:
    return (outputs,) if isinstance(outputs, Tensor) else tuple(outputs)


def _shapes(outputs: tuple[Tensor, ...]) -> str:
    return ", ".join(str(tuple(output.shape)) for output in outputs)


def relative_error(outputs: Outputs, exact: Outputs) -> float:
    """max |outputs - exact| / max |exact|, the worst over all outputs; infinite if a value is not finite."""
    worst = 0.0
    for output, expected in zip(_as_tuple(outputs), _as_tuple(exact), strict=True):
        if expected.numel() == 0:
            continue
        expected = expected.double()
        largest = expected.abs().max().item()
        difference = (output.double() - expected).abs().max().item()
        error = difference / largest if largest else difference
        worst = max(worst, error if math.isfinite(error) else math.inf)
    return worst


def allowed_error(eager_error: float, dtype: torch.dtype) -> float:
    """Twice the error of eager PyTorch in the same dtype, plus a floor."""
    return 2 * eager_error + _FLOOR[dtype]


def judge(outputs: Outputs, exact: Outputs, allowed: float) -> Verdict:
    """Compare a provider's outputs with the float64 result."""
    got, expected = _as_tuple(outputs), _as_tuple(exact)
    if [output.shape for output in got] != [output.shape for output in expected]:
        return Verdict(math.inf, allowed, f"gives shape {_shapes(got)}, expected {_shapes(expected)}")
    error = relative_error(got, expected)
    if error > allowed:
        return Verdict(error, allowed, f"relative error {error:.1e}, allowed {allowed:.1e}")
    return Verdict(error, allowed)
