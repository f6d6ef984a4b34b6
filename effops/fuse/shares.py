"""How much of a model its fused blocks are: counted while a copy runs an example, else by its parameters."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from .report import Row, Shares


def is_convolution(module: nn.Module | None) -> bool:
    """Whether a module is a convolution of images, of torch's class or by its attributes alone (CondConv)."""
    return isinstance(module, nn.Conv2d) or (
        module is not None
        and not module._modules
        and "weight" in module._parameters
        and all(hasattr(module, name) for name in ("in_channels", "out_channels", "kernel_size", "groups"))
    )


def _macs_a_value(layer: nn.Module) -> int:
    """Multiply-accumulates for one value of the output; 0 for layers without any to speak of."""
    if isinstance(layer, nn.Linear):
        return layer.in_features
    return math.prod(layer.kernel_size) * layer.in_channels // layer.groups if is_convolution(layer) else 0


def by_parameters(model: nn.Module, rows: Iterable[Row]) -> Shares:
    """Shares of the parameters of convolutions and linear layers."""
    layers = {name: m.weight.numel() for name, m in model.named_modules() if _macs_a_value(m)}
    return Shares("parameters", _share(layers, rows))


def by_example(copy: nn.Module, arguments: tuple[Any, ...], rows: Iterable[Row]) -> Shares:
    """Shares of what runs for an example.

    Args:
        copy: of the model, unfused, in eval; hooks are put on it.
    """
    macs: dict[str, int] = {}
    moved: dict[str, int] = {}

    def hook(name: str, layer: nn.Module) -> None:
        def count(_: nn.Module, inputs: tuple, output: Any) -> None:
            tensors = [t for t in tree_leaves((inputs, output)) if isinstance(t, Tensor)]
            moved[name] = moved.get(name, 0) + sum(t.numel() * t.element_size() for t in tensors)
            if isinstance(output, Tensor):
                macs[name] = macs.get(name, 0) + output.numel() * _macs_a_value(layer)

        layer.register_forward_hook(count)

    for name, module in copy.named_modules():
        if not module._modules or module._parameters:
            hook(name, module)
    with torch.no_grad():
        copy(*arguments)
    return Shares("macs", _share(macs, rows), _share(moved, rows))


def _share(amounts: dict[str, int], rows: Iterable[Row]) -> float:
    prefixes = [name for row in rows if row.state != "left" for name in row.modules]
    inside = sum(
        amount
        for name, amount in amounts.items()
        if any(not prefix or name == prefix or name.startswith(f"{prefix}.") for prefix in prefixes)
    )
    total = sum(amounts.values())
    return inside / total if total else 0.0
