"""``effops.fuse`` and ``effops.unfuse``."""

from __future__ import annotations

from typing import Any, TypeVar

from torch import Tensor, nn

from effops.errors import ArgumentError, FuseError

from . import shares
from . import verify as verification
from .plan import Plan
from .plan import plan as make_plan
from .report import FuseReport
from .swap import FusedModule, swap, unswap

_Model = TypeVar("_Model", bound=nn.Module)


def fuse(
    model: _Model, *, dry_run: bool = False, strict: bool = False, verify: Tensor | tuple[Any, ...] | None = None
) -> _Model:
    """Let a model's blocks run on fused ops, in place: timm's, torchvision's, or any that are built of these parts.

    Convolutions with batch norm and activation, squeeze-excite and whole inverted residuals are found by what they
    are and do, not by the model's name. Parameters, ``state_dict`` keys, hooks, shared modules and modes stay; where
    a fused op may not stand for the modules at a call (hooks inside, replaced modules, a dtype without kernels), they
    run themselves. See docs/fuse.md.

    Args:
        dry_run: only report; nothing but ``model.fuse_report`` is set.
        strict: raise when nothing was fused, or something was left that fused ops could run.
        verify: an input of the model, or a tuple of its positional arguments: outputs are compared before and after in
            eval, and outputs, gradients and statistics in training if the model is in training mode. The shares of the
            report are then of multiply-accumulates and bytes.

    Returns:
        model, with the report as ``model.fuse_report``.

    Raises:
        FuseError: with ``strict`` or ``verify``, as said there; the model is then as it was.
        ArgumentError: model is no module, or verify does not fit it.
    """
    if not isinstance(model, nn.Module):
        raise ArgumentError(f"model must be a torch.nn.Module; got {type(model).__name__}")
    arguments = _arguments(verify)
    found = make_plan(model)
    report = _report(model, found, arguments, dry_run)
    if strict:
        _check_strict(report)
    if not dry_run:
        _convert(model, found, arguments)
    model.fuse_report = report
    return model


def unfuse(model: _Model) -> _Model:
    """Undo :func:`fuse`: every module gets its own class back. Returns the model."""
    if not isinstance(model, nn.Module):
        raise ArgumentError(f"model must be a torch.nn.Module; got {type(model).__name__}")
    for module in model.modules():
        if isinstance(module, FusedModule):
            unswap(module)
        module.__dict__.pop("fuse_report", None)
    return model


def _arguments(given: Tensor | tuple[Any, ...] | None) -> tuple[Any, ...] | None:
    if given is None:
        return None
    if isinstance(given, Tensor):
        return (given,)
    if isinstance(given, (tuple, list)):
        return tuple(given)
    raise ArgumentError(f"verify must be a tensor or a tuple of the model's arguments; got {type(given).__name__}")


def _report(model: nn.Module, found: Plan, arguments: tuple[Any, ...] | None, dry_run: bool) -> FuseReport:
    if arguments is None:
        counted = shares.by_parameters(model, found.rows)
    else:
        copy = verification.bare_copy(model)
        unfuse(copy).eval()
        try:
            counted = shares.by_example(copy, arguments, found.rows)
        except Exception as error:
            raise ArgumentError(f"verify must be an input of the model, which fails: {error}") from error
    return FuseReport(type(model).__name__, tuple(found.rows), counted, dry_run)


def _check_strict(report: FuseReport) -> None:
    if not report.fused:
        reasons = "; ".join(f"{row.path}: {row.detail}" for row in report.left[:3])
        raise FuseError(f"strict: nothing in {report.model} can be fused{': ' + reasons if reasons else ''}")
    eligible = [row for row in report.left if row.eligible]
    if eligible:
        named = "; ".join(f"{row.path or '(the model)'} ({row.kind}): {row.detail}" for row in eligible[:5])
        more = f"; and {len(eligible) - 5} more" if len(eligible) > 5 else ""
        raise FuseError(f"strict: {len(eligible)} blocks of {report.model} would be left: {named}{more}")


def _convert(model: nn.Module, found: Plan, arguments: tuple[Any, ...] | None) -> None:
    before = None if arguments is None else verification.bare_copy(model)
    done: list[FusedModule] = []
    try:
        for module, program in found.swaps:
            swap(module, program)
            done.append(module)
        if before is not None:
            verification.compare(before, verification.bare_copy(model), arguments)
    except BaseException:
        for module in done:
            unswap(module)
        raise
