"""effops: fused kernels that make the MobileNet and EfficientNet families fast in PyTorch."""

import re as _re

import torch as _torch

__version__ = "0.1.0"

_found = tuple(int(part) for part in _re.findall(r"\d+", _torch.__version__)[:2])
if _found < (2, 11):
    raise ImportError(
        f"effops needs torch 2.11 or newer, found {_torch.__version__}. Upgrade it: pip install --upgrade 'torch>=2.11'"
    )

from . import ops  # noqa: E402 - after the version check, so that an old torch gives the readable message
from .errors import ArgumentError, BackendError, CheckpointError, EffopsError, ExportError, FuseError  # noqa: E402
from .fuse import fuse, unfuse  # noqa: E402
from .models import create_model, list_models, model_info  # noqa: E402
from .ops.backends import backend  # noqa: E402
from .ops.extension import release_memory  # noqa: E402
from .ops.introspection import explain  # noqa: E402
from .tape import compile_cpu, uncompile  # noqa: E402

__all__ = [
    "ArgumentError",
    "BackendError",
    "CheckpointError",
    "EffopsError",
    "ExportError",
    "FuseError",
    "__version__",
    "backend",
    "compile_cpu",
    "create_model",
    "explain",
    "fuse",
    "list_models",
    "model_info",
    "ops",
    "release_memory",
    "uncompile",
    "unfuse",
]
