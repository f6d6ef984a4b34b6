"""The plain-torch reference of the training kernels: what the fused forward and backward passes are made of.

Between two convolutions lies only one tensor, the raw output x of the first. What the second one reads is a *view* of
it, computed while x is loaded:

    view(x) = act(z) * gate,    z = (x - mean) * scale + shift

with ``affine`` = (mean, scale, shift), one row each, and ``gate`` one value an image and channel; both may be absent.
Its gradient is passed on likewise, as the gradient g of the view with what turns it into the gradient of x:

    du = scale * dz + slope * (x - mean) + offset,    dz = (g * gate + pool_grad) * act'(z)

with ``coef`` = (mean, scale, shift, slope, offset). slope and offset hold what batch norm's own statistics add (Ioffe
and Szegedy, arXiv 1502.03167, section 3); they are zero where the statistics are constants. ``pool_grad`` (N, C) is the
gradient that comes through the spatial mean of act(z), divided by the number of pixels.

Everything is computed in float32 (float64 for float64) and rounded once, to x's dtype, where it is stored.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from .reference import accumulation_dtype, activation, as_matrix, channels_last, conv
from .shape import pad_before_after
from .spec import ACTIVATIONS, GATES


def _silu_grad(z: Tensor) -> Tensor:
    s = torch.sigmoid(z)
    return s * (1 + z * (1 - s))


def _hardswish_grad(z: Tensor) -> Tensor:
    return torch.where(z <= -3, 0.0, torch.where(z < 3, z / 3 + 0.5, torch.ones_like(z)))


def _gelu_grad(z: Tensor) -> Tensor:
    return 0.5 * (1 + torch.erf(z / math.sqrt(2))) + z * torch.exp(-0.5 * z * z) / math.sqrt(2 * math.pi)


_GRADS = {
    "identity": torch.ones_like,
    "relu": lambda z: (z > 0).to(z.dtype),
    "relu6": lambda z: ((z > 0) & (z < 6)).to(z.dtype),
    "silu": _silu_grad,
    "hardswish": _hardswish_grad,
    "gelu": _gelu_grad,
}


def activation_grad(z: Tensor, act: int) -> Tensor:
    """The derivative of the activation with this code at z."""
    return _GRADS[ACTIVATIONS[act]](z)


_GATE_GRADS = {
    "sigmoid": lambda y: y * (1 - y),
    "hardsigmoid": lambda y: ((y > 0) & (y < 1)).to(y.dtype) / 6,
}


def gate_grad(y: Tensor, gate: int) -> Tensor:
    """The derivative of the gate with this code where its value is y."""
    return _GATE_GRADS[GATES[gate]](y)


def _rows(vectors: Tensor) -> tuple[Tensor, ...]:
    """The rows of a (k, C) tensor, each shaped to broadcast over (N, C, H, W)."""
    return vectors[:, None, :, None, None].unbind()


def _over_pixels(gate: Tensor) -> Tensor:
    return gate[:, :, None, None]


def _widened(x: Tensor) -> Tensor:
    return x.to(accumulation_dtype(x))


def _normalised(x: Tensor, affine: Tensor | None) -> Tensor:
    x = _widened(x)
    if affine is None:
        return x
    mean, scale, shift = _rows(affine)
    return (x - mean) * scale + shift


def _view(x: Tensor, affine: Tensor | None, gate: Tensor | None, act: int) -> Tensor:
    """In the accumulation dtype."""
    y = activation(_normalised(x, affine), act)
    return y if gate is None else y * _over_pixels(gate)


def _stored(y: Tensor, like: Tensor) -> Tensor:
    return channels_last(y.to(like.dtype))


def _statistics(x: Tensor) -> Tensor:
    if x.numel() == 0:
        return torch.zeros((2, x.shape[1]), dtype=accumulation_dtype(x), device=x.device)
    return torch.stack(torch.var_mean(_widened(x), (0, 2, 3), correction=0)[::-1])


def batch_norm_stats(x: Tensor) -> Tensor:
    return _statistics(x)


def batch_norm_apply(x: Tensor, affine: Tensor, gate: Tensor | None, residual: Tensor | None, act: int) -> Tensor:
    y = _view(x, affine, gate, act)
    return _stored(y if residual is None else y + residual, x)


def batch_norm_pool(x: Tensor, affine: Tensor, act: int) -> Tensor:
    return _view(x, affine, None, act).mean((2, 3))


def batch_norm_apply_pool(x: Tensor, affine: Tensor, act: int) -> tuple[Tensor, Tensor]:
    y = _view(x, affine, None, act)
    return _stored(y, x), y.mean((2, 3))


def batch_norm_grad_sums(grad: Tensor, x: Tensor, affine: Tensor | None, act: int) -> Tensor:
    z = _normalised(x, affine)
    grad, slope = _widened(grad), activation_grad(z, act)
    away = _widened(x) if affine is None else _widened(x) - _rows(affine)[0]
    terms = (grad * activation(z, act), grad * slope, slope, grad * slope * away, slope * away)
    return torch.stack([term.sum((2, 3)) for term in terms])


def _input_grad(
    grad: Tensor, u: Tensor | None, coef: Tensor | None, gate: Tensor | None, pool_grad: Tensor | None, act: int
) -> Tensor:
    """du in the accumulation dtype."""
    grad = _widened(grad)
    if gate is not None:
        grad = grad * _over_pixels(gate)
    if pool_grad is not None:
        grad = grad + _over_pixels(pool_grad)
    if coef is None:
        return grad
    mean, scale, _, slope, offset = _rows(coef)
    dz = grad * activation_grad(_normalised(u, coef[:3]), act)
    return scale * dz + slope * (_widened(u) - mean) + offset


def batch_norm_grad_apply(
    grad: Tensor, u: Tensor | None, coef: Tensor | None, gate: Tensor | None, pool_grad: Tensor | None, act: int
) -> Tensor:
    return _stored(_input_grad(grad, u, coef, gate, pool_grad, act), grad)


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
    dtype = accumulation_dtype(pooled)
    reduce, expand = as_matrix(reduce_weight).to(dtype), as_matrix(expand_weight).to(dtype)
    hidden = F.linear(pooled, reduce, None if reduce_bias is None else reduce_bias.to(dtype))
    d_logits = grad * gate_grad(gated, gate)
    d_hidden = (d_logits @ expand) * activation_grad(hidden, act)
    return (
        d_hidden @ reduce,
        (d_hidden.T @ pooled).view(reduce_weight.shape),
        d_hidden.sum(0),
        (d_logits.T @ activation(hidden, act)).view(expand_weight.shape),
        d_logits.sum(0),
    )


def pointwise_conv_stats(
    x: Tensor, affine: Tensor | None, gate: Tensor | None, weight: Tensor, act: int
) -> tuple[Tensor, Tensor]:
    matrix = as_matrix(weight)[:, :, None, None]
    u = _stored(F.conv2d(_view(x, affine, gate, act), _widened(matrix)), x)
    return u, _statistics(u)


def depthwise_conv_stats(
    x: Tensor,
    affine: Tensor | None,
    weight: Tensor,
    stride_h: int,
    stride_w: int,
    pad_h: int,
    pad_w: int,
    dilation_h: int,
    dilation_w: int,
    act: int,
) -> tuple[Tensor, Tensor]:
    geometry = (stride_h, stride_w), (pad_h, pad_w), (dilation_h, dilation_w)
    u = conv(_view(x, affine, None, act), _widened(weight), None, *geometry, groups=x.shape[1])
    u = _stored(u, x)
    return u, _statistics(u)


def _conv_backward(
    du: Tensor,
    x: Tensor,
    affine: Tensor | None,
    gate: Tensor | None,
    act: int,
    weight: Tensor,
    geometry: tuple[tuple[int, int], ...],
    groups: int,
    needs: tuple[bool, bool],
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of the view and of the weight, and the sums for what lies below the view."""
    stride, padding, dilation = geometry
    height, width = x.shape[2:]
    (top, bottom), (left, right) = (
        pad_before_after(x.shape[2 + i], weight.shape[2 + i], stride[i], padding[i], dilation[i]) for i in (0, 1)
    )
    view = F.pad(_view(x, affine, gate, act), (left, right, top, bottom))
    dx, dweight, _ = torch.ops.aten.convolution_backward(
        du, view, _widened(weight), None, stride, (0, 0), dilation, False, (0, 0), groups, (*needs, False)
    )
    # Three empty tensors, not one three times: outputs of an op must not share memory.
    sums = du.new_empty(0)
    if needs[0]:
        dx = _stored(dx[:, :, top : top + height, left : left + width], x)
        if affine is not None or gate is not None:
            sums = batch_norm_grad_sums(dx, x, affine, act)
    return (
        dx if needs[0] else x.new_empty(0),
        dweight.contiguous().flatten().view(weight.shape) if needs[1] else du.new_empty(0),
        sums,
    )


def pointwise_conv_backward(
    grad: Tensor,
    u: Tensor | None,
    coef: Tensor | None,
    u_gate: Tensor | None,
    pool_grad: Tensor | None,
    u_act: int,
    x: Tensor,
    affine: Tensor | None,
    gate: Tensor | None,
    act: int,
    weight: Tensor,
    need_x: bool,
    need_weight: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    du = _input_grad(grad, u, coef, u_gate, pool_grad, u_act)
    kernel = as_matrix(weight)[:, :, None, None]
    geometry = (1, 1), (0, 0), (1, 1)
    dx, dweight, sums = _conv_backward(du, x, affine, gate, act, kernel, geometry, 1, (need_x, need_weight))
    return dx, dweight.view(weight.shape) if need_weight else dweight, sums


def depthwise_conv_backward(
    grad: Tensor,
    u: Tensor | None,
    coef: Tensor | None,
    u_gate: Tensor | None,
    pool_grad: Tensor | None,
    u_act: int,
    x: Tensor,
    affine: Tensor | None,
    act: int,
    weight: Tensor,
    stride_h: int,
    stride_w: int,
    pad_h: int,
    pad_w: int,
    dilation_h: int,
    dilation_w: int,
    need_x: bool,
    need_weight: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    du = _input_grad(grad, u, coef, u_gate, pool_grad, u_act)
    geometry = (stride_h, stride_w), (pad_h, pad_w), (dilation_h, dilation_w)
    return _conv_backward(du, x, affine, None, act, weight, geometry, x.shape[1], (need_x, need_weight))
