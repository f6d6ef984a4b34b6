"""Compares a fused model with what it was, on an example: outputs, and in training gradients and statistics."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves, tree_map

from effops.errors import ArgumentError, FuseError

from .trial import own_random_numbers, strip_hooks

# Relative error that is rounding whatever eager's own is: 84 units in the last place, 1e-5 in float32.
_ULPS = 84

Outcome = dict[str, Tensor]


def bare_copy(model: nn.Module) -> nn.Module:
    """A copy to run: without hooks, which belong to the model's own runs, and without gradients."""
    try:
        twin = copy.deepcopy(model)
    except Exception as error:
        raise ArgumentError(
            f"verify needs copies of the model, and this one cannot be copied: {type(error).__name__}: {error}. "
            "Leave verify out and compare outputs yourself"
        ) from error
    for part in twin.modules():
        strip_hooks(part)
    for parameter in twin.parameters():
        parameter.grad = None
    return twin


def compare(before: nn.Module, after: nn.Module, arguments: tuple[Any, ...]) -> float:
    """The largest relative error of a fused model, in eval; and in training if it is in training mode.

    Allowed is a relative error of 1e-5 (float32; in proportion for other dtypes), or twice that of the model before,
    in the worse of torch's two memory formats; both against a run in float64.

    Args:
        before: a copy of the model as it was, hooks removed; it is used up.
        after: a copy of the fused model.

    Raises:
        FuseError: it differs by more.
    """
    training = before.training
    with torch.inference_mode(False):
        worst = _compare(before, after, arguments, training=False)
        return max(worst, _compare(before, after, arguments, training=True)) if training else worst


def _compare(before: nn.Module, after: nn.Module, arguments: tuple[Any, ...], *, training: bool) -> float:
    exact = _outcome(copy.deepcopy(before).double(), tree_map(_to_double, arguments), training=training)
    eager = _outcome(copy.deepcopy(before), arguments, training=training)
    other = _outcome(copy.deepcopy(before), tree_map(_other_layout, arguments), training=training)
    found = _outcome(copy.deepcopy(after), arguments, training=training)
    where = "in training" if training else "in eval"
    if found.keys() != exact.keys():
        raise FuseError(f"{where} the fused model gives {sorted(found.keys() ^ exact.keys())[0]} only one way")
    gradients = [value.norm() for key, value in exact.items() if key.startswith("gradient")]
    largest = max(gradients, default=torch.tensor(0.0)).item()
    worst = 0.0
    for key, value in exact.items():
        if found[key].shape != value.shape:
            raise FuseError(f"{where} {key} has shape {tuple(found[key].shape)}, not {tuple(value.shape)}")
        # A gradient that is zero but for rounding is measured by the largest of all.
        scale = max(value.norm().item(), 1e-2 * largest if key.startswith("gradient") else 0.0, 1e-30)
        error = (found[key].double() - value).norm().item() / scale
        of_eager = max((run[key].double() - value).norm().item() / scale for run in (eager, other))
        eps = torch.finfo(eager[key].dtype).eps if eager[key].is_floating_point() else 0.0
        allowed = max(_ULPS * eps, 2 * of_eager)
        if not error <= allowed:
            raise FuseError(
                f"{where} {key} differs after the conversion: relative error {error:.3g}, allowed {allowed:.3g}. "
                "The model is as it was; please report this, with the model"
            )
        worst = max(worst, error)
    return worst


def _outcome(model: nn.Module, arguments: tuple[Any, ...], *, training: bool) -> Outcome:
    if not training:
        model.eval()
    device = next((p.device for p in model.parameters()), torch.device("cpu"))
    devices = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices), own_random_numbers(), torch.set_grad_enabled(training):
        y = model(*arguments)
        outputs = [t for t in tree_leaves(y) if isinstance(t, Tensor)]
        found = {f"output {i}" if len(outputs) > 1 else "the output": t.detach() for i, t in enumerate(outputs)}
        if not training:
            return found
        wanted = {name: p for name, p in model.named_parameters() if p.requires_grad}
        if not wanted or not any(t.requires_grad for t in outputs):
            return found
        loss = sum((t.double() * _direction(t)).sum() for t in outputs if t.requires_grad)
        grads = torch.autograd.grad(loss, list(wanted.values()), allow_unused=True)
    found |= {f"gradient of {n}": g for n, g in zip(wanted, grads, strict=True) if g is not None}
    return found | {f"buffer {name}": b.clone() for name, b in model.named_buffers() if b.is_floating_point()}


def _direction(t: Tensor) -> Tensor:
    """Fixed random factors: the plain sum of a batch-normalised output would hardly depend on the weights."""
    generator = torch.Generator().manual_seed(t.numel())
    return torch.randn(t.shape, generator=generator, dtype=torch.float64).to(t.device)


def _to_double(value: Any) -> Any:
    return value.double() if isinstance(value, Tensor) and value.is_floating_point() else value


def _other_layout(value: Any) -> Any:
    if not isinstance(value, Tensor) or value.dim() != 4:
        return value
    nchw = value.is_contiguous()
    return value.contiguous(memory_format=torch.channels_last if nchw else torch.contiguous_format)
