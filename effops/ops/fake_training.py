"""Shapes, dtypes and strides of the training kernels' outputs, for tracing. All image outputs are channels_last."""

from __future__ import annotations

import torch
from torch import Tensor

from .fake import accumulated, conv_act, image_like


def _statistics(x: Tensor, channels: int) -> Tensor:
    return accumulated(x, 2, channels)


def _same_image(x: Tensor) -> Tensor:
    return image_like(x, *x.shape[1:])


def batch_norm_stats(x: Tensor) -> Tensor:
    return _statistics(x, x.shape[1])


def batch_norm_apply(x: Tensor, affine: Tensor, gate: Tensor | None, residual: Tensor | None, act: int) -> Tensor:
    return _same_image(x)


def batch_norm_pool(x: Tensor, affine: Tensor, act: int) -> Tensor:
    return accumulated(x, x.shape[0], x.shape[1])


def batch_norm_apply_pool(x: Tensor, affine: Tensor, act: int) -> tuple[Tensor, Tensor]:
    return _same_image(x), accumulated(x, x.shape[0], x.shape[1])


def batch_norm_grad_sums(grad: Tensor, x: Tensor, affine: Tensor | None, act: int) -> Tensor:
    return accumulated(x, 5, x.shape[0], x.shape[1])


def batch_norm_grad_apply(
    grad: Tensor, u: Tensor | None, coef: Tensor | None, gate: Tensor | None, pool_grad: Tensor | None, act: int
) -> Tensor:
    return _same_image(grad)


def se_gate_backward(
    grad: Tensor,
    gated: Tensor,
    pooled: Tensor,
    reduce_weight: Tensor,
    reduce_bias: Tensor | None,
    expand_weight: Tensor,
    expand_bias: Tensor | None,
    act: int,
    gate: int,
) -> tuple[Tensor, ...]:
    reduced, channels = reduce_weight.shape[0], expand_weight.shape[0]
    sizes = (pooled.shape, reduce_weight.shape, (reduced,), expand_weight.shape, (channels,))
    return tuple(accumulated(pooled, *size) for size in sizes)


def pointwise_conv_stats(
    x: Tensor, affine: Tensor | None, gate: Tensor | None, weight: Tensor, act: int
) -> tuple[Tensor, Tensor]:
    return image_like(x, weight.shape[0], x.shape[2], x.shape[3]), _statistics(x, weight.shape[0])


def depthwise_conv_stats(
    x: Tensor, affine: Tensor | None, weight: Tensor, *geometry_and_act: int
) -> tuple[Tensor, Tensor]:
    return conv_act(x, weight, None, *geometry_and_act), _statistics(x, weight.shape[0])


def _backward(x: Tensor, has_view: bool, weight: Tensor, need_x: bool, need_weight: bool) -> tuple[Tensor, ...]:
    return (
        _same_image(x) if need_x else torch.empty(0, dtype=x.dtype, device=x.device),
        accumulated(x, *(weight.shape if need_weight else (0,))),
        accumulated(x, *((5, x.shape[0], x.shape[1]) if need_x and has_view else (0,))),
    )


# The first six arguments describe the gradient and are of no concern here.
def pointwise_conv_backward(*args: Tensor | int | bool | None) -> tuple[Tensor, ...]:
    x, affine, gate, _, weight, need_x, need_weight = args[6:]
    return _backward(x, affine is not None or gate is not None, weight, need_x, need_weight)


def depthwise_conv_backward(*args: Tensor | int | bool | None) -> tuple[Tensor, ...]:
    x, affine, _, weight, *_, need_x, need_weight = args[6:]
    return _backward(x, affine is not None, weight, need_x, need_weight)
