"""timm's networks of these families: their own methods run a stem and a head whose layers no container holds."""

from __future__ import annotations

import sys

from torch import nn

from .leaves import Reader, Unreadable
from .program import NetworkProgram
from .sequences import of_modules

_STEM = ("conv_stem", "bn1")

# Class: what its methods run one after the other with nothing between, and the methods that do.
_KNOWN: dict[tuple[str, str], tuple[tuple[tuple[str, ...], ...], tuple[str, ...]]] = {
    ("timm.models.efficientnet", "EfficientNet"): (
        (_STEM, ("conv_head", "bn2")),
        ("forward_features", "forward_intermediates"),
    ),
    ("timm.models.efficientnet", "EfficientNetFeatures"): ((_STEM,), ("forward",)),
    ("timm.models.mobilenetv3", "MobileNetV3Features"): (((*_STEM, "act1"),), ("forward",)),
    ("timm.models.mobilenetv3", "MobileNetV3"): (
        (_STEM, ("conv_head", "norm_head", "act2")),
        ("forward_features", "forward_head", "forward_intermediates"),
    ),
}


def find(module: nn.Module, reader: Reader) -> NetworkProgram | None:
    """What the methods of a known network run together; None for any other module, and where a method is overridden."""
    known = next((row for row in _KNOWN.items() if isinstance(module, _loaded(*row[0]))), None)
    if known is None:
        return None
    names, (sequences, methods) = known
    original = _loaded(*names)
    if any(getattr(type(module), name) is not getattr(original, name, None) for name in methods):
        return None
    pairs = []
    for names in sequences:
        modules = {name: module._modules.get(name) for name in names}
        if any(part is None for part in modules.values()):
            continue
        try:
            step = of_modules(modules, reader)
        except Unreadable:
            continue
        if step is not None:
            pairs.append(step)
    return NetworkProgram(tuple(pairs), methods) if pairs else None


def _loaded(module: str, name: str) -> type | tuple:
    """A class of a package that is in use already; nothing is imported for the question."""
    return getattr(sys.modules.get(module), name, ())
