"""Gradients of the folded ops, made of the training kernels.

Each function takes the backend's ops, which arguments want a gradient, the gradients of the outputs and the schema's
arguments; it returns one gradient or None an argument. What lies between the convolution and the output is computed
again, not kept.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from .reference import accumulation_dtype
from .shape import pad_before_after

_IDENTITY = 0
# A namespace of torch.ops that holds the rows of the op table.
Ops = Any
Needs = tuple[bool, ...]
Grads = tuple[Tensor | None, ...]


def dense_conv(
    du: Tensor, x: Tensor, weight: Tensor, geometry: tuple[int, ...], needs: tuple[bool, bool]
) -> tuple[Tensor | None, Tensor | None]:
    """Gradients of x and weight of a dense convolution, by torch; SAME padding is undone on x's side."""
    stride, padding, dilation = geometry[:2], geometry[2:4], geometry[4:]
    height, width = x.shape[2:]
    (top, bottom), (left, right) = (
        pad_before_after(x.shape[2 + i], weight.shape[2 + i], stride[i], padding[i], dilation[i]) for i in (0, 1)
    )
    symmetric = top == bottom and left == right
    padded, zeros = (x, (top, left)) if symmetric else (F.pad(x, (left, right, top, bottom)), (0, 0))
    dx, dweight, _ = torch.ops.aten.convolution_backward(
        du, padded, weight, None, stride, zeros, dilation, False, (0, 0), 1, (*needs, False)
    )
    if needs[0] and not symmetric:
        dx = dx[:, :, top : top + height, left : left + width]
    return dx, dweight


def _affine(x: Tensor, channels: int, bias: Tensor | None) -> Tensor:
    """(mean, scale, shift) that add a bias and nothing else."""
    affine = torch.zeros((3, channels), dtype=accumulation_dtype(x), device=x.device)
    affine[1] = 1.0
    if bias is not None:
        affine[2] = bias
    return affine


def _behind(u: Tensor | None, bias: Tensor | None, act: int, dy: Tensor, pool_grad: Tensor | None) -> tuple:
    """The gradient of a convolution's output u that the backward kernels read, from that of act(u + bias)."""
    if u is None:
        return dy, None, None, None, pool_grad, _IDENTITY
    affine = _affine(dy, dy.shape[1], bias)
    return dy, u, torch.cat([affine, torch.zeros_like(affine[:2])]), None, pool_grad, act


def _bias_grad(ops: Ops, behind: tuple, bias: Tensor) -> Tensor:
    dy, u, coef, _, pool_grad, act = behind
    sums = ops.batch_norm_grad_sums(dy, dy if u is None else u, None if coef is None else coef[:3], act)
    # With an identity the slope is 1 and the sum of slope is the number of pixels.
    total = sums[1] if pool_grad is None else torch.addcmul(sums[1], sums[2], pool_grad)
    return total.sum(0).to(bias.dtype)


def _shaped(grad: Tensor, like: Tensor) -> Tensor:
    return grad.to(like.dtype).view(like.shape)


def conv_act(ops: Ops, needs: Needs, grads: Grads, x: Tensor, weight: Tensor, bias: Tensor | None, *rest: int) -> Grads:
    *geometry, act = rest
    u = None if act == _IDENTITY else ops.conv_act(x, weight, None, *geometry, _IDENTITY)
    behind = _behind(u, bias, act, grads[0], None)
    du = grads[0] if u is None else ops.batch_norm_grad_apply(*behind)
    dx, dweight = dense_conv(du, x, weight, tuple(geometry), needs[:2])
    return (dx, dweight, _bias_grad(ops, behind, bias) if needs[2] else None, *(None,) * len(rest))


def depthwise_conv_act(
    ops: Ops, needs: Needs, grads: Grads, x: Tensor, weight: Tensor, bias: Tensor | None, *rest: int
) -> Grads:
    *geometry, act = rest
    u = None if act == _IDENTITY else ops.depthwise_conv_act(x, weight, None, *geometry, _IDENTITY)
    pool_grad = grads[1] / (grads[0].shape[2] * grads[0].shape[3]) if len(grads) > 1 else None
    behind = _behind(u, bias, act, grads[0], pool_grad)
    dx, dweight, _ = ops.depthwise_conv_backward(*behind, x, None, _IDENTITY, weight, *geometry, *needs[:2])
    return (
        dx if needs[0] else None,
        _shaped(dweight, weight) if needs[1] else None,
        _bias_grad(ops, behind, bias) if needs[2] else None,
        *(None,) * len(rest),
    )


depthwise_conv_act_pool = depthwise_conv_act


def pointwise_conv_act(
    ops: Ops,
    needs: Needs,
    grads: Grads,
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    gate: Tensor | None,
    residual: Tensor | None,
    act: int,
) -> Grads:
    (dy,) = grads
    u = None if act == _IDENTITY else ops.pointwise_conv_act(x, weight, None, gate, None, _IDENTITY)
    behind = _behind(u, bias, act, dy, None)
    need_x = needs[0] or needs[3]
    dx, dweight, sums = ops.pointwise_conv_backward(*behind, x, None, gate, _IDENTITY, weight, need_x, needs[1])
    if needs[0] and gate is not None:
        dx = ops.batch_norm_grad_apply(dx, None, None, gate, None, _IDENTITY)
    return (
        dx if needs[0] else None,
        _shaped(dweight, weight) if needs[1] else None,
        _bias_grad(ops, behind, bias) if needs[2] else None,
        sums[0].to(gate.dtype) if needs[3] else None,
        dy if needs[4] else None,
        None,
    )


def se_gate(ops: Ops, needs: Needs, grads: Grads, pooled: Tensor, *rest: Tensor | int | None) -> Grads:
    *weights, act, gate = rest
    gated = ops.se_gate(pooled, *rest)
    found = ops.se_gate_backward(grads[0], gated, pooled, *weights, act, gate)
    wanted = zip(found, (pooled, *weights), needs, strict=False)
    return (*(_shaped(g, like) if need else None for g, like, need in wanted), None, None)


def squeeze_excite(ops: Ops, needs: Needs, grads: Grads, x: Tensor, *rest: Tensor | int | None) -> Grads:
    *weights, given, act, gate = rest
    (dy,) = grads
    pooled = ops.batch_norm_pool(x, _affine(x, x.shape[1], None), _IDENTITY) if given is None else given
    gated = ops.se_gate(pooled, *weights, act, gate)
    d_gated = ops.batch_norm_grad_sums(dy, x, None, _IDENTITY)[0]
    d_pooled, *found = ops.se_gate_backward(d_gated, gated, pooled, *weights, act, gate)
    through_mean = d_pooled / (x.shape[2] * x.shape[3]) if given is None else None
    dx = ops.batch_norm_grad_apply(dy, None, None, gated, through_mean, _IDENTITY) if needs[0] else None
    wanted = zip(found, weights, needs[1:5], strict=True)
    return (dx, *(_shaped(g, w) if need else None for g, w, need in wanted), d_pooled if needs[5] else None, None, None)
