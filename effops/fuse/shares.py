"""How much of a model its fused blocks are: counted while a copy runs an example, else by its parameters."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from .report import Row, Shares


def by_parameters(model: nn.Module, rows: Iterable[Row]) -> Shares:
    """Shares of the parameters of convolutions and linear layers."""
    layers = {name: m.weight.numel() for name, m in model.named_modules() if isinstance(m, (nn.Conv2d, nn.Linear))}
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
            if isinstance(layer, (nn.Conv2d, nn.Linear)) and isinstance(output, Tensor):
                inner = layer.weight[0].numel()
                macs[name] = macs.get(name, 0) + output.numel() * inner

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
