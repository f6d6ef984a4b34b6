"""The tolerance rule.

Against the float64 reference, a kernel's error may be at most twice that of plain torch in the same dtype, plus one
unit in the last place of the largest value; four where there are so few values (under 64) that eager's largest error is
a matter of luck. No other number is tuned.
"""

from __future__ import annotations

import torch
from torch import Tensor


def largest_error(actual: Tensor, exact: Tensor) -> float:
    """Largest absolute error, NaN-aware: a NaN on one side only is an infinite error."""
    actual = actual.double()
    if not torch.equal(actual.isnan(), exact.isnan()):
        return float("inf")
    error = (actual - exact).abs().nan_to_num(0.0)
    return error.max().item() if error.numel() else 0.0


def assert_as_good_as_eager(
    actual: Tensor, eager: Tensor, exact: Tensor, what: str = "output", scale: float = 0.0
) -> None:
    """Hold a kernel's result to the tolerance rule of this module.

    Args:
        actual: the kernel's result.
        eager: plain torch in the same dtype.
        exact: the float64 reference on the same inputs.
        what: named in the error.
        scale: magnitude of the values that the result was computed from, where it is larger than the result: a mean
            that cancels is rounded as its terms are.

    Raises:
        AssertionError: shape or dtype differ, or the error is over twice eager's plus the floor.
    """
    if actual.shape != exact.shape or actual.dtype != eager.dtype:
        raise AssertionError(
            f"{what}: got {actual.dtype} {tuple(actual.shape)}, expected {eager.dtype} {tuple(exact.shape)}"
        )
    scale = max(scale, exact.abs().nan_to_num(0.0).max().item() if exact.numel() else 0.0)
    ulps = 1 if exact.numel() >= 64 else 4
    floor = ulps * torch.finfo(actual.dtype).eps * scale
    error, allowed = largest_error(actual, exact), 2 * largest_error(eager, exact) + floor
    if error > allowed:
        raise AssertionError(f"{what}: error {error:.3g}, allowed {allowed:.3g} at values up to {scale:.3g}")
