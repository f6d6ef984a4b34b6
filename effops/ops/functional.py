"""The public ops: checked arguments in, the chosen backend's result out.

Tensors are NCHW-shaped. channels_last is the native layout: any other is accepted and converted once, and every
image result is channels_last. Accumulation, pooling and squeeze-excite are in float32. All of these are the folded
forms (batch norm already inside weight and bias); gradients flow through the decomposition.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ..errors import ArgumentError
from . import backends, checks
from .table import OPS


def autocast(*tensors: Tensor | None) -> tuple[Tensor | None, ...]:
    """Images and weights as torch's autocast wants them; means, gates and squeeze-excite stay in float32."""
    device = tensors[0].device.type if isinstance(tensors[0], Tensor) else "cpu"
    if not torch.is_autocast_enabled(device):
        return tensors
    low = torch.get_autocast_dtype(device)
    casts = (torch.float32, torch.float16, torch.bfloat16)
    return tuple(t.to(low) if isinstance(t, Tensor) and t.dtype in casts else t for t in tensors)


def conv_act(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    *,
    stride: int | Sequence[int] = 1,
    padding: int | str | Sequence[int] = 0,
    dilation: int | Sequence[int] = 1,
    act: str = "identity",
) -> Tensor:
    """Dense convolution and activation in one pass: ``act(conv(x, weight) + bias)``. The stem of these networks.

    Args:
        x: (N, C, H, W).
        weight: (O, C, kh, kw), x's dtype.
        bias: (O,), x's dtype or float32.
        stride, dilation: an int or (height, width).
        padding: an int, (height, width), or "same": TensorFlow's SAME, asymmetric where it must be, for any size.
        act: identity, relu, relu6, silu, hardswish or gelu.

    Returns:
        (N, O, Ho, Wo), channels_last.

    Raises:
        ArgumentError: a shape, dtype, device or value does not fit.
        BackendError: a backend was asked for that cannot run the call.
    """
    x, weight = autocast(x, weight)
    args = checks.conv(x, weight, bias, stride, padding, dilation, act, depthwise=False)
    return backends.run(OPS["conv_act"], args)


def depthwise_conv_act(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    *,
    stride: int | Sequence[int] = 1,
    padding: int | str | Sequence[int] = 0,
    dilation: int | Sequence[int] = 1,
    act: str = "identity",
    pool: bool = False,
) -> Tensor | tuple[Tensor, Tensor]:
    """Depthwise convolution and activation in one pass: ``y = act(dwconv(x, weight) + bias)``.

    Args:
        x: (N, C, H, W).
        weight: (C, 1, kh, kw), x's dtype. Kernels 3, 5 and 7 with stride 1 or 2 are tuned; any other works.
        bias: (C,), x's dtype or float32.
        stride, dilation: an int or (height, width).
        padding: an int, (height, width), or "same": TensorFlow's SAME, asymmetric where it must be, for any size.
        act: identity, relu, relu6, silu, hardswish or gelu.
        pool: also return the float32 spatial mean of y, shape (N, C), from the same pass: what squeeze-excite needs.

    Returns:
        y (N, C, Ho, Wo), channels_last; with ``pool`` the pair (y, mean).

    Raises:
        ArgumentError: a shape, dtype, device or value does not fit.
        BackendError: a backend was asked for that cannot run the call.
    """
    x, weight = autocast(x, weight)
    args = checks.conv(x, weight, bias, stride, padding, dilation, act, depthwise=True)
    return backends.run(OPS["depthwise_conv_act_pool" if pool else "depthwise_conv_act"], args)


def pointwise_conv_act(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    *,
    act: str = "identity",
    gate: Tensor | None = None,
    residual: Tensor | None = None,
) -> Tensor:
    """1x1 convolution with a gate before and activation and residual after: ``act(W (gate * x) + b) + residual``.

    Args:
        x: (N, C, H, W).
        weight: (O, C, 1, 1) or (O, C), x's dtype.
        bias: (O,), x's dtype or float32.
        act: identity, relu, relu6, silu, hardswish or gelu.
        gate: (N, C) float32, the squeeze-excite scale of every image and channel, applied while x is read.
        residual: (N, O, H, W), added last, as the inverted residual does.

    Returns:
        (N, O, H, W), channels_last.

    Raises:
        ArgumentError: a shape, dtype, device or value does not fit.
        BackendError: a backend was asked for that cannot run the call.
    """
    x, weight, residual = autocast(x, weight, residual)
    return backends.run(OPS["pointwise_conv_act"], checks.pointwise(x, weight, bias, gate, residual, act))


def se_gate(
    pooled: Tensor,
    reduce_weight: Tensor,
    reduce_bias: Tensor | None,
    expand_weight: Tensor,
    expand_bias: Tensor | None,
    *,
    act: str = "relu",
    gate: str = "sigmoid",
) -> Tensor:
    """The squeeze-excite gate alone: ``gate(W2 act(W1 pooled + b1) + b2)`` (Hu et al., arXiv 1709.01507, section 3).

    Args:
        pooled: (N, C) float32, the spatial mean, as ``depthwise_conv_act(pool=True)`` returns it.
        reduce_weight: (R, C) or (R, C, 1, 1); ``reduce_bias`` (R,).
        expand_weight: (C, R) or (C, R, 1, 1); ``expand_bias`` (C,).
        act: activation of the reduced layer (silu in EfficientNet, relu in MobileNetV3).
        gate: sigmoid (EfficientNet) or hardsigmoid (MobileNetV3).

    Returns:
        (N, C) float32: the ``gate`` argument of :func:`pointwise_conv_act`.

    Raises:
        ArgumentError: a shape, dtype, device or value does not fit.
        BackendError: a backend was asked for that cannot run the call.
    """
    args = checks.se_gate(pooled, reduce_weight, reduce_bias, expand_weight, expand_bias, act, gate)
    return backends.run(OPS["se_gate"], args)


def squeeze_excite(
    x: Tensor,
    reduce_weight: Tensor,
    reduce_bias: Tensor | None,
    expand_weight: Tensor,
    expand_bias: Tensor | None,
    *,
    act: str = "relu",
    gate: str = "sigmoid",
    pooled: Tensor | None = None,
) -> Tensor:
    """Squeeze-excite (Hu et al., arXiv 1709.01507): ``x * gate(W2 act(W1 mean(x) + b1) + b2)``.

    Where a pointwise convolution follows, :func:`se_gate` with that convolution's ``gate`` saves the scaling pass.

    Args:
        x: (N, C, H, W).
        reduce_weight: (R, C) or (R, C, 1, 1); ``reduce_bias`` (R,).
        expand_weight: (C, R) or (C, R, 1, 1); ``expand_bias`` (C,).
        act: activation of the reduced layer.
        gate: sigmoid or hardsigmoid.
        pooled: (N, C) float32 mean of x, when it is known already.

    Returns:
        (N, C, H, W), channels_last.

    Raises:
        ArgumentError: a shape, dtype, device or value does not fit.
        BackendError: a backend was asked for that cannot run the call.
    """
    (x,) = autocast(x)
    args = checks.squeeze_excite(x, reduce_weight, reduce_bias, expand_weight, expand_bias, pooled, act, gate)
    return backends.run(OPS["squeeze_excite"], args)


def kernel_layout(weight: Tensor) -> Tensor:
    """The same convolution weight with the strides that the kernels read fastest: memory order (kh, kw, in, out).

    Values and shape do not change, so the result can be used wherever the weight can. Worth doing once for a weight
    that is used often.

    Args:
        weight: (O, I, kh, kw) or (O, I).
    """
    if weight.dim() == 2:
        return weight.t().contiguous().t()
    if weight.dim() != 4:
        raise ArgumentError(f"weight must have 2 or 4 dimensions; got shape {tuple(weight.shape)}")
    return weight.permute(2, 3, 1, 0).contiguous().permute(3, 2, 0, 1)


__all__ = [
    "conv_act",
    "depthwise_conv_act",
    "kernel_layout",
    "pointwise_conv_act",
    "se_gate",
    "squeeze_excite",
]
