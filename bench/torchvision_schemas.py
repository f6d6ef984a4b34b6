"""Lets timm be imported beside a torch that torchvision's compiled part was not built for.

timm imports torchvision; torchvision's import stops when its compiled ops are missing, and its wheels are
built for CUDA. Only Python model code is wanted here, so schemas without kernels are enough.
"""

from __future__ import annotations

import importlib
from functools import cache

import torch

_SCHEMAS = (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
)


@cache
def import_torchvision() -> torch.library.Library | None:
    """Import torchvision, with schemas standing in for its compiled ops where these do not load.

    The library is cached because the schemas would go with it.
    """
    try:
        importlib.import_module("torchvision")
    except RuntimeError:
        library = torch.library.Library("torchvision", "DEF")
        for schema in _SCHEMAS:
            library.define(schema)
        importlib.import_module("torchvision")
        return library
    return None
