"""Whole blocks as one op: what lies between their convolutions stays in the cache."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from . import backends, checks
from .functional import autocast, depthwise_conv_act, pointwise_conv_act
from .table import OPS
from .training import SqueezeExcite

Folded = tuple[Tensor, Tensor | None]


def mbconv(
    x: Tensor,
    expand: Folded | None,
    depthwise: Folded,
    project: Folded,
    *,
    stride: int | Sequence[int] = 1,
    padding: int | str | Sequence[int] = 0,
    dilation: int | Sequence[int] = 1,
    act: str = "relu",
    squeeze_excite: SqueezeExcite | None = None,
    residual: bool = False,
    project_act: str = "identity",
) -> Tensor:
    """Inverted residual (Sandler et al., arXiv 1801.04381, section 3.3), batch norm folded in.

        h = act(W1 x + b1),  d = act(dwconv(h, W2) + b2),  y = project_act(W3 (gate * d) + b3) + x

    where gate = 1 without squeeze-excite. Without an expansion h = x: the depthwise separable block. On the CPU it runs
    depth first where that pays: rows of h and d are made and used while they are in the cache. With squeeze-excite d is
    written once, as the gate needs all of it. Where gradients are wanted, or a backend has no kernel for the whole
    block, the parts run one by one, with the same result.

    Args:
        x: (N, C, H, W).
        expand: weight (M, C, 1, 1) and bias (M,) or None; None where there is no expansion and M = C.
        depthwise: weight (M, 1, kh, kw) and bias (M,) or None.
        project: weight (O, M, 1, 1) and bias (O,) or None.
        stride, padding, dilation: of the depthwise convolution, as in :func:`depthwise_conv_act`.
        act: after expansion and depthwise convolution.
        squeeze_excite: its weights, activation and gate.
        residual: add x; needs stride 1 and O = C.
        project_act: after the projection.

    Returns:
        (N, O, Ho, Wo), channels_last.

    Raises:
        ArgumentError: a shape, dtype, device or value does not fit.
        BackendError: a backend was asked for that cannot run the call.
    """
    weights, biases = checks.weights_and_biases(expand=expand, depthwise=depthwise, project=project)
    x, *weights = autocast(x, *weights)
    se = squeeze_excite
    gate = (None,) * 4 if se is None else (se.reduce_weight, se.reduce_bias, se.expand_weight, se.expand_bias)
    acts = (act, "relu", "sigmoid", project_act) if se is None else (act, se.act, se.gate, project_act)
    args = checks.mbconv(x, weights, biases, stride, padding, dilation, gate, residual, acts)
    y = backends.run_whole(OPS["mbconv"], args)
    return _by_parts(*args) if y is None else y


def fused_mbconv(
    x: Tensor,
    expand: Folded,
    project: Folded,
    *,
    stride: int | Sequence[int] = 1,
    padding: int | str | Sequence[int] = 0,
    dilation: int | Sequence[int] = 1,
    act: str = "relu",
    residual: bool = False,
    project_act: str = "identity",
) -> Tensor:
    """Fused inverted residual (Tan and Le, arXiv 2104.00298, section 3.2), batch norm folded in.

        y = project_act(W2 act(conv(x, W1) + b1) + b2) + x

    One dense convolution stands for the expansion and the depthwise convolution. On the CPU it runs depth
    first: rows of the expanded tensor are made and used while they are in the cache. Where gradients are wanted, or a
    backend has no kernel for the whole block, the parts run one by one, with the same result.

    Args:
        x: (N, C, H, W).
        expand: weight (M, C, kh, kw) and bias (M,) or None.
        project: weight (O, M, 1, 1) and bias (O,) or None.
        stride, padding, dilation: of the dense convolution, as in :func:`conv_act`.
        act: after the dense convolution.
        residual: add x; needs stride 1 and O = C.
        project_act: after the projection.

    Returns:
        (N, O, Ho, Wo), channels_last.

    Raises:
        ArgumentError: a shape, dtype, device or value does not fit.
        BackendError: a backend was asked for that cannot run the call.
    """
    weights, biases = checks.weights_and_biases(expand=expand, project=project)
    x, *weights = autocast(x, *weights)
    args = checks.fused_mbconv(x, weights, biases, stride, padding, dilation, residual, (act, project_act))
    y = backends.run_whole(OPS["fused_mbconv"], args)
    return _fused_by_parts(*args) if y is None else y


def uib(
    x: Tensor,
    start: Folded | None,
    expand: Folded,
    middle: Folded | None,
    project: Folded,
    *,
    stride: int | Sequence[int] = 1,
    padding: int | str | Sequence[int] | None = None,
    act: str = "relu",
    residual: bool = False,
) -> Tensor:
    """Universal inverted bottleneck (Qin et al., arXiv 2404.10518, section 4), batch norm folded in.

        s = dwconv(x, W1) + b1,  h = act(W2 s + b2),  d = act(dwconv(h, W3) + b3),  y = W4 d + b4 + x

    where s = x without a start and d = h without a middle: extra depthwise (both), inverted bottleneck (middle),
    ConvNeXt-like (start) and feed-forward (none). What follows the start runs as one :func:`mbconv` where it has a
    middle and x is not added behind a start. Layer scale is a factor of W4 and b4.

    Args:
        x: (N, C, H, W).
        start: weight (C, 1, kh, kw) and bias (C,) or None; None where there is no such convolution.
        expand: weight (M, C, 1, 1) and bias (M,) or None.
        middle: weight (M, 1, kh, kw) and bias (M,) or None; None where there is no such convolution.
        project: weight (O, M, 1, 1) and bias (O,) or None.
        stride: of the middle convolution, or of the start where there is no middle.
        padding: of both: None for half of each kernel, else as in :func:`depthwise_conv_act`.
        act: after expansion and middle convolution.
        residual: add x; needs stride 1 and O = C.

    Returns:
        (N, O, Ho, Wo), channels_last.

    Raises:
        ArgumentError: a shape, dtype, device or value does not fit.
        BackendError: a backend was asked for that cannot run the call.
    """
    weights, biases = checks.weights_and_biases(start=start, expand=expand, middle=middle, project=project)
    x, *weights = autocast(x, *weights)
    of_start, of_middle = checks.uib(x, weights, biases, stride, padding, residual, act)
    start, expand, middle, project = zip(weights, biases, strict=True)
    y = x if start[0] is None else depthwise_conv_act(x, *start, **of_start)
    if middle[0] is not None and (start[0] is None or not residual):
        return mbconv(y, expand, middle, project, **of_middle, act=act, residual=residual)
    y = pointwise_conv_act(y, *expand, act=act)
    if middle[0] is not None:
        y = depthwise_conv_act(y, *middle, **of_middle, act=act)
    return pointwise_conv_act(y, *project, residual=x if residual else None)


def _fused_by_parts(
    x: Tensor, expand_weight: Tensor, expand_bias: Tensor | None, *rest: Tensor | int | bool | None
) -> Tensor:
    geometry, (project_weight, project_bias, residual, act, project_act) = rest[:6], rest[6:]
    y = backends.run(OPS["conv_act"], (x, expand_weight, expand_bias, *geometry, act))
    added = x if residual else None
    return backends.run(OPS["pointwise_conv_act"], (y, project_weight, project_bias, None, added, project_act))


def _by_parts(
    x: Tensor,
    expand_weight: Tensor | None,
    expand_bias: Tensor | None,
    depthwise_weight: Tensor,
    depthwise_bias: Tensor | None,
    *rest: Tensor | int | bool | None,
) -> Tensor:
    geometry, se_weights, (project_weight, project_bias, residual, act, se_act, gate, project_act) = (
        rest[:6],
        rest[6:10],
        rest[10:],
    )
    y, scale = x, None
    if expand_weight is not None:
        y = backends.run(OPS["pointwise_conv_act"], (x, expand_weight, expand_bias, None, None, act))
    depthwise = (y, depthwise_weight, depthwise_bias, *geometry, act)
    if se_weights[0] is None:
        y = backends.run(OPS["depthwise_conv_act"], depthwise)
    else:
        y, pooled = backends.run(OPS["depthwise_conv_act_pool"], depthwise)
        scale = backends.run(OPS["se_gate"], (pooled, *se_weights, se_act, gate))
    added = x if residual else None
    return backends.run(OPS["pointwise_conv_act"], (y, project_weight, project_bias, scale, added, project_act))
