"""What a model gives, to compare before and after a conversion."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

Outcome = dict[str, Tensor]


def images(batch: int = 2, height: int = 33, width: int = 38, dtype: torch.dtype = torch.float32) -> Tensor:
    """Odd and even, so that TensorFlow's padding is asymmetric on one axis at least."""
    return torch.randn(batch, 3, height, width, generator=torch.Generator().manual_seed(0)).to(dtype)


def step(model: nn.Module, x: Tensor, *, seed: int = 0) -> Outcome:
    """Outputs, gradients and buffers of a training step of a copy, with fixed random numbers."""
    model = copy.deepcopy(model).train()
    torch.manual_seed(seed)
    x = x.clone().requires_grad_()
    y = model(x)
    y = y if isinstance(y, Tensor) else y[-1]
    target = torch.randn(y.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    (y.double() * target).sum().backward()
    found = {"output": y.detach(), "gradient of x": x.grad}
    found |= {f"gradient of {name}": p.grad for name, p in model.named_parameters() if p.grad is not None}
    return found | {name: b.clone() for name, b in model.named_buffers() if b.is_floating_point()}


def distance(actual: Outcome, exact: Outcome) -> dict[str, float]:
    """Relative error of every tensor, by norm; a gradient that is zero but for rounding is measured by the largest."""
    assert actual.keys() == exact.keys()
    largest = max((v.double().norm() for k, v in exact.items() if k.startswith("gradient")), default=0.0)
    errors = {}
    for key, value in exact.items():
        value = value.double()
        scale = max(value.norm(), 1e-2 * largest if key.startswith("gradient") else 0.0, torch.tensor(1e-30))
        errors[key] = ((actual[key].double() - value).norm() / scale).item()
    return errors
