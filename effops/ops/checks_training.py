"""Validation of the layers of a chain: what :mod:`effops.ops.training` was given, or an ArgumentError that teaches."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ..errors import ArgumentError
from . import checks
from .chain import DENSE, DEPTHWISE, NO_CONV, POINTWISE
from .reference import accumulation_dtype
from .shape import output_size

if TYPE_CHECKING:
    from .training import BatchNorm, Layer

_Size = tuple[int, int, int, int]


def layers(given: Sequence[Layer]) -> None:
    """Require at least one layer, and nothing else than layers."""
    if not isinstance(given, (list, tuple)) or not given:
        raise ArgumentError(f"layers must be a list of at least one effops.ops.Layer; got {given!r:.80}")
    for i, one in enumerate(given):
        if not hasattr(one, "batch_norm"):
            raise ArgumentError(f"layers must hold effops.ops.Layer alone; layer {i} is {type(one).__name__}")


def depthwise_weight(weight: Tensor, x: Tensor) -> None:
    """Require a depthwise weight for x, before batch norm is folded into it."""
    checks.image(x)
    checks.beside(weight, "weight", x, (x.dtype,))
    checks.filters(weight, x.shape[1], depthwise=True)


def sample_scale(scale: Tensor | None, x: Tensor) -> None:
    """Require one factor a sample, in the dtype that x is accumulated in."""
    if scale is None:
        return
    checks.beside(scale, "sample_scale", x, (accumulation_dtype(x),))
    if scale.shape != x.shape[:1]:
        raise ArgumentError(
            f"sample_scale must have shape ({x.shape[0]},), one factor a sample; got {checks.text_of(scale)}"
        )


def layer(layer: Layer, size: _Size, x: Tensor, *, first: bool, any_dtype: bool) -> tuple[_Size, tuple[int, ...]]:
    """The size of a layer's output and its geometry.

    Args:
        size: (N, C, H, W) of the layer's input.
        x: the chain's input, for device and dtype.
        first: whether it is the first of its chain.
        any_dtype: the weight may be of another floating dtype than x, as under autocast.
    """
    conv, weight = layer.conv, layer.weight
    kinds = (POINTWISE, DEPTHWISE, DENSE, NO_CONV) if first else (POINTWISE, DEPTHWISE)
    if conv not in kinds:
        where = "" if first else " after the first layer"
        raise ArgumentError(f"conv must be one of {', '.join(kinds)}{where}; got {conv!r}")
    if layer.squeeze_excite is not None:
        if first or conv != POINTWISE:
            raise ArgumentError(
                f"squeeze_excite goes before a pointwise convolution that is not the first; got {conv!r}"
            )
        se = layer.squeeze_excite
        weights = (se.reduce_weight, se.reduce_bias, se.expand_weight, se.expand_bias)
        checks.se_weights(x, "x", size[1], *weights)
    n, channels, height, width = size
    if conv == NO_CONV:
        if weight is not None:
            raise ArgumentError("weight must be None for a layer without convolution")
        return tuple(size), (1, 1, 0, 0, 1, 1)
    dtypes = (torch.float32, torch.bfloat16, torch.float16) if any_dtype else (x.dtype,)
    checks.beside(weight, "weight", x, dtypes)
    if conv == POINTWISE:
        checks.matrix(weight, "weight", "out_channels", channels)
        return (n, weight.shape[0], height, width), (1, 1, 0, 0, 1, 1)
    checks.filters(weight, channels, depthwise=conv == DEPTHWISE)
    filters = weight.shape
    geometry = checks.geometry((height, width), filters, layer.stride, layer.padding, layer.dilation)
    stride, padding, dilation = geometry[:2], geometry[2:4], geometry[4:]
    rows, columns = (
        output_size(extent, filters[2 + i], stride[i], padding[i], dilation[i])
        for i, extent in enumerate((height, width))
    )
    return (n, filters[0], rows, columns), geometry


def batch_norm(bn: BatchNorm, size: _Size, x: Tensor) -> None:
    """Require vectors of the right size, and enough values for statistics of the batch."""
    dtypes = (torch.float64,) if x.dtype == torch.float64 else (torch.float32, torch.bfloat16, torch.float16)
    for name in ("weight", "bias", "running_mean", "running_var"):
        vector = getattr(bn, name)
        if vector is None:
            continue
        argument = name if name.startswith("running") else f"bn_{name}"
        checks.beside(vector, argument, x, dtypes)
        if vector.dim() != 1 or vector.shape[0] != size[1]:
            raise ArgumentError(
                f"{argument} must have shape ({size[1]},), one value an output channel; got {checks.text_of(vector)}"
            )
    if (bn.running_mean is None) != (bn.running_var is None):
        raise ArgumentError("running_mean and running_var must both be given, or neither")
    if bn.momentum is None and bn.training and bn.running_mean is not None and bn.num_batches_tracked is None:
        raise ArgumentError("momentum None (cumulative average) needs num_batches_tracked")
    if bn.uses_batch and bn.group is None and size[0] * size[2] * size[3] == 1:
        # torch's own words, so that code that looks for them finds them.
        raise ArgumentError(
            f"Expected more than 1 value per channel when training, got input size {tuple(size)}. "
            "Use a larger batch, or put the batch norm in eval mode"
        )
