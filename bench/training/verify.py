"""Is a training step right? Its loss, its gradients and the statistics of batch norm, against the step in float64.

The error of a tensor is the 2-norm of its difference to float64 over the 2-norm of the float64 tensor. A tensor may
err twice as much as in eager PyTorch, plus a floor. Eager counts in both memory layouts, since their sums differ in
order and accuracy, and a tensor may always err as much as one in ten of eager's: that eager met a tensor well
by chance binds nobody.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from bench.statistics import quantile
from bench.verify import Verdict, allowed_error

from .step import TrainingCase, TrainingStep

LOSS, GRADIENT, STATISTIC = "loss", "gradient", "statistic"

Name = tuple[str, str]
Results = dict[Name, Tensor]
Errors = dict[Name, float]

# Relative to its kind. Batch norm takes constants away, so the gradient of a bias before one is zero, and what
# float64 gives for it is rounding.
_VANISHING = 1e-9
_OFTEN = 0.9


def gather(step: TrainingStep, loss: Tensor) -> Results:
    """What a step gave, taken between its backward and its update."""
    results = {(LOSS, ""): loss.detach()}
    for name, parameter in step.module.named_parameters():
        if parameter.grad is not None:
            results[GRADIENT, name] = parameter.grad
    for name, buffer in step.module.named_buffers():
        results[STATISTIC, name] = buffer.clone()
    return results


def exact_results(case: TrainingCase) -> Results:
    """The first step in float64."""
    step = TrainingStep(copy.deepcopy(case.module).double(), case.images.double(), case.labels)
    loss = step.forward()
    step.backward(loss)
    return gather(step, loss)


def _typical(results: Results, kind: str) -> float:
    """Root mean square over all tensors of a kind."""
    values = [tensor for (of_kind, _), tensor in results.items() if of_kind == kind]
    squares = sum(value.double().square().sum().item() for value in values)
    return math.sqrt(squares / max(1, sum(value.numel() for value in values)))


def relative_errors(results: Results, exact: Results) -> Errors:
    """|result - exact| over |exact| of every tensor, in the 2-norm; infinite where missing or not finite."""
    typical = {kind: _typical(exact, kind) for kind in (LOSS, GRADIENT, STATISTIC)}
    errors = {}
    for name, expected in exact.items():
        result = results.get(name)
        if result is None or result.shape != expected.shape:
            errors[name] = math.inf
            continue
        expected = expected.double()
        usual = typical[name[0]] * math.sqrt(expected.numel())
        norm = expected.norm().item()
        norm = norm if norm > _VANISHING * usual else usual
        difference = (result.double() - expected).norm().item()
        error = difference / norm if norm else difference
        errors[name] = error if math.isfinite(error) else math.inf
    return errors


def allowed_errors(eager: Sequence[Errors], dtype: torch.dtype) -> Errors:
    """What every tensor may err, by what eager PyTorch errs in its memory layouts."""
    worst = {name: max(errors[name] for errors in eager) for name in eager[0]}
    often = {
        kind: quantile([error for (of_kind, _), error in worst.items() if of_kind == kind], _OFTEN)
        for kind in dict.fromkeys(kind for kind, _ in worst)
    }
    return {name: allowed_error(max(error, often[name[0]]), dtype) for name, error in worst.items()}


def judge(errors: Mapping[Name, float], allowed: Mapping[Name, float]) -> Verdict:
    """The error of the tensor that comes nearest to its limit, or exceeds it most."""
    name = max(errors, key=lambda key: errors[key] / allowed[key])
    error, limit = errors[name], allowed[name]
    if error <= limit:
        return Verdict(error, limit)
    what = " of ".join(part for part in name if part)
    if math.isinf(error):
        return Verdict(error, limit, f"{what} is missing, of another shape or not finite")
    return Verdict(error, limit, f"{what} errs {error:.1e}, allowed {limit:.1e}")
