"""Gradients by decomposition: the forward runs a kernel, the backward differentiates the op's reference."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from .spec import Op, Outputs


class ByReference(torch.autograd.Function):
    """Forward by the op's kernel, backward through its reference, recomputed from the saved inputs.

    An ``autograd.Function`` around the op, not an Autograd kernel inside it, so that inference pays nothing.
    """

    @staticmethod
    def forward(ctx: Any, op: Op, *args: Any) -> Outputs:
        ctx.op = op
        ctx.is_tensor = [isinstance(arg, Tensor) for arg in args]
        ctx.constants = [None if isinstance(arg, Tensor) else arg for arg in args]
        ctx.save_for_backward(*(arg for arg in args if isinstance(arg, Tensor)))
        return op.overload(*args)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple:
        saved = iter(ctx.saved_tensors)
        # Double backward: create_graph runs this with gradients enabled and needs the graph to reach the inputs.
        create_graph = torch.is_grad_enabled()
        args, wanted = [], []
        for position, is_tensor in enumerate(ctx.is_tensor):
            if not is_tensor:
                args.append(ctx.constants[position])
                continue
            tensor = next(saved)
            needs = ctx.needs_input_grad[position + 1]
            if not create_graph:
                tensor = tensor.detach().requires_grad_(needs)
            args.append(tensor)
            if needs:
                wanted.append(tensor)
        with torch.enable_grad():
            outputs = ctx.op.reference(*args)
        outputs = outputs if isinstance(outputs, tuple) else (outputs,)
        found = iter(torch.autograd.grad(outputs, wanted, grads, create_graph=create_graph))
        return (None, *(next(found) if needs else None for needs in ctx.needs_input_grad[1:]))
