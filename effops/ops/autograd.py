"""Gradients of the folded ops: the forward runs a kernel, the backward runs kernels, too."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from .spec import Op, Outputs


class FoldedOp(torch.autograd.Function):
    """Forward by the op's kernel, backward by the functions of :mod:`effops.ops.backward`, from the saved inputs.

    A gradient that is to be differentiated again goes through the op's reference instead. An ``autograd.Function``
    around the op, not an Autograd kernel inside it, so that inference pays nothing.
    """

    @staticmethod
    def forward(ctx: Any, namespace: str, op: Op, *args: Any) -> Outputs:
        ctx.namespace, ctx.op = namespace, op
        ctx.is_tensor = [isinstance(arg, Tensor) for arg in args]
        ctx.constants = [None if isinstance(arg, Tensor) else arg for arg in args]
        ctx.save_for_backward(*(arg for arg in args if isinstance(arg, Tensor)))
        return op.overload_in(namespace)(*args)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        saved = iter(ctx.saved_tensors)
        pairs = zip(ctx.is_tensor, ctx.constants, strict=True)
        args = [next(saved) if is_tensor else constant for is_tensor, constant in pairs]
        needs = ctx.needs_input_grad[2:]
        if torch.is_grad_enabled():
            return (None, None, *_differentiable(ctx.op, args, needs, grads))
        return (None, None, *ctx.op.backward(getattr(torch.ops, ctx.namespace), needs, grads, *args))


def _differentiable(op: Op, args: list, needs: tuple[bool, ...], grads: tuple[Tensor, ...]) -> list[Tensor | None]:
    """Gradients with a graph of their own: those of the reference."""
    wanted = [arg for arg, need in zip(args, needs, strict=True) if need]
    with torch.enable_grad():
        outputs = op.reference(*args)
    outputs = outputs if isinstance(outputs, tuple) else (outputs,)
    found = iter(torch.autograd.grad(outputs, wanted, grads, create_graph=True))
    return [next(found) if need else None for need in needs]
