"""Parameters in groups for an optimizer: weight decay where it belongs, smaller steps near the input."""

from __future__ import annotations

from typing import Any

from torch import nn

from effops.errors import ArgumentError

from .trunk import Trunk


def parameter_groups(
    network: Trunk, *, lr: float, weight_decay: float = 0.0, layer_decay: float = 1.0
) -> list[dict[str, Any]]:
    """Groups of a network's trainable parameters for a ``torch.optim`` optimizer.

    Vectors (batch norm, biases, layer scale) decay by nothing. With ``layer_decay`` below 1 the learning rate shrinks
    by that factor from the classifier to the head convolution, and from block to block down to the stem.

    Args:
        lr: of the classifier.
        weight_decay: of matrices and filters.

    Raises:
        ArgumentError: a rate below 0, or a layer_decay that is not in (0, 1].
    """
    for name, value in (("lr", lr), ("weight_decay", weight_decay)):
        if value < 0:
            raise ArgumentError(f"{name} must be at least 0; got {value}")
    if not 0 < layer_decay <= 1:
        raise ArgumentError(f"layer_decay must be in (0, 1]; got {layer_decay}")
    depths = _depths(network)
    deepest = max(depths.values())
    groups: dict[tuple[int, bool], list[nn.Parameter]] = {}
    for name, parameter in network.named_parameters():
        if parameter.requires_grad:
            depth = depths[_part(name)] if layer_decay < 1 else deepest
            groups.setdefault((depth, parameter.dim() > 1), []).append(parameter)
    return [
        {
            "params": parameters,
            "lr": lr * layer_decay ** (deepest - depth),
            "weight_decay": weight_decay if decays else 0.0,
        }
        for (depth, decays), parameters in groups.items()
    ]


def _part(name: str) -> str:
    """The part of a network that a parameter belongs to: ``blocks.i.j`` or the name of a top module."""
    names = name.split(".")
    return ".".join(names[:3]) if names[0] == "blocks" else names[0]


def _depths(network: Trunk) -> dict[str, int]:
    """Depth of every part, 0 for the stem. A convolution and its norm are as deep as each other."""
    parts = dict.fromkeys(_part(name) for name, _ in network.named_parameters())
    blocks = [part for part in parts if part.startswith("blocks.")]
    depths = {"conv_stem": 0, "bn1": 0, **{part: depth for depth, part in enumerate(blocks, 1)}}
    head = len(blocks) + 1
    return {part: depths.get(part, head + (part == "classifier")) for part in parts}
