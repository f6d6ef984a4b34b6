"""A model as an AOTInductor package: machine code for this kind of processor."""

from __future__ import annotations

import os
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from .files import checked, written
from .program import plain_program
from .verify import Exported, examples_of, verified


def to_aoti(
    model: nn.Module, example: Tensor, path: str | os.PathLike[str], *, dynamic: Sequence[str] = ()
) -> Exported:
    """Compile a model ahead of time with AOTInductor: a ``.pt2`` package for ``torch._inductor.aoti_load_package``.

    Needs a C++ compiler, as torch.compile does. The package runs from C++ too, without Python.

    Args:
        model, example, path, dynamic: as in :func:`effops.export.to_exported_program`.

    Raises:
        ArgumentError: the model is in training mode, or an argument is out of range.
        ExportError: the package does not answer as the model does.
    """
    target = checked(path, ".pt2")
    program = plain_program(model, example, dynamic)
    with written(target) as temporary:
        torch._inductor.aoti_compile_and_package(program, package_path=temporary)
        loaded = torch._inductor.aoti_load_package(temporary)
        errors = verified(model, loaded, examples_of(example, dynamic), f"the package {str(path)!r}")
    return Exported(os.fspath(path), "AOTInductor", tuple(dynamic), errors)
