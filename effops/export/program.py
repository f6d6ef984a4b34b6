"""A model as a ``torch.export`` program of plain aten operators."""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from effops.errors import ArgumentError
from effops.ops.table import OPS

from .constants import fold_constants
from .files import checked, written
from .verify import Exported, examples_of, verified

# What may change from call to call, and the axes of the images that this lets loose.
DYNAMIC = {"batch": (0,), "size": (2, 3)}


def plain_program(model: nn.Module, example: Tensor, dynamic: Sequence[str] = ()) -> ExportedProgram:
    """Trace a model in eval mode into a program of aten operators: no op of effops, batch norms folded.

    Args:
        example: images (N, C, H, W); the program is made for their device, dtype and, where not dynamic, their size.
        dynamic: "batch", "size", both or neither.

    Raises:
        ArgumentError: the model is in training mode, or an argument is not what is said above.
    """
    check(model, example, dynamic)
    # An axis of one would be taken for a constant.
    axes = {axis for name in dynamic for axis in DYNAMIC[name]}
    if 0 in axes and example.shape[0] < 2:
        example = example[:1].expand(2, -1, -1, -1).contiguous()
    shapes = ({axis: Dim.DYNAMIC for axis in axes},)
    with torch.no_grad(), warnings.catch_warnings():
        # torch.export warns of torch's own tree specs.
        warnings.simplefilter("ignore", FutureWarning)
        traced = torch.export.export(model, (example,), dynamic_shapes=shapes)
        references = {op.overload: op.reference for op in OPS.values()}
        folded = fold_constants(traced.run_decompositions(references).module(check_guards=False))
        return torch.export.export(folded, (example,), dynamic_shapes=shapes)


def to_exported_program(
    model: nn.Module,
    example: Tensor,
    path: str | os.PathLike[str],
    *,
    dynamic: Sequence[str] = (),
) -> Exported:
    """Save a model as a ``torch.export`` program of plain aten operators: a ``.pt2`` file for ``torch.export.load``.

    Args:
        model: in eval mode: one of ``effops.create_model``, one that ``effops.fuse`` converted, or any other.
        example: images (N, C, H, W) as the model takes them.
        path: the file to write; one that is there is replaced when the new one is complete and right.
        dynamic: what may differ from the example in later calls: "batch", "size", both or neither.

    Raises:
        ArgumentError: the model is in training mode, or an argument is out of range.
        ExportError: the file does not answer as the model does.
    """
    target = checked(path, ".pt2")
    program = plain_program(model, example, dynamic)
    with written(target) as temporary:
        torch.export.save(program, temporary)
        loaded = torch.export.load(temporary).module()
        errors = verified(model, loaded, examples_of(example, dynamic), f"the exported program {str(path)!r}")
    return Exported(os.fspath(path), "torch.export", tuple(dynamic), errors)


def check(model: nn.Module, example: Tensor, dynamic: Sequence[str]) -> None:
    """Require a model in eval mode, images, and known names."""
    if not isinstance(model, nn.Module):
        raise ArgumentError(f"model must be a torch.nn.Module; got {type(model).__name__}")
    if model.training:
        raise ArgumentError("model must be in eval mode, as only inference is exported: call model.eval() first")
    if not isinstance(example, Tensor) or example.dim() != 4:
        got = f"shape {tuple(example.shape)}" if isinstance(example, Tensor) else type(example).__name__
        raise ArgumentError(f"example must be a tensor of images (N, C, H, W); got {got}")
    if isinstance(dynamic, str) or not set(dynamic) <= set(DYNAMIC):
        raise ArgumentError(f"dynamic must be a list of {', '.join(map(repr, DYNAMIC))}; got {dynamic!r}")
