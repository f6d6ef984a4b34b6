"""Model libraries of others, also where torchvision's compiled part does not load."""

from __future__ import annotations

import importlib
from functools import cache
from types import ModuleType

import torch


@cache
def import_library(name: str) -> ModuleType:
    """Import timm or torchvision.

    timm imports torchvision, whose import stops when its compiled ops were built for another torch. Model code in
    Python needs none of them: schemas without kernels let the import go on.

    Raises:
        ImportError, RuntimeError: what the library's own import raises.
    """
    try:
        importlib.import_module("torchvision")
    except RuntimeError:
        _schemas()
    return importlib.import_module(name)


@cache
def _schemas() -> torch.library.Library:
    """The cache keeps the library alive: the schemas go with it."""
    library = torch.library.Library("torchvision", "DEF")
    for name in ("nms", "qnms"):
        library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    return library
