"""Batch norm by constant statistics, folded into the convolution before it: both are one affine map.

BN(W x + c) = s W x + (beta + s (c - mean)),    s = gamma / sqrt(var + eps)
"""

from __future__ import annotations

import torch
from torch import Tensor

from .reference import accumulation_dtype


def fold_batch_norm(
    weight: Tensor,
    bias: Tensor | None,
    mean: Tensor,
    var: Tensor,
    bn_weight: Tensor | None,
    bn_bias: Tensor | None,
    eps: float,
) -> tuple[Tensor, Tensor]:
    """Weight and bias of the convolution with its batch norm. Differentiable in all of them.

    Computed in float32 (float64 for a float64 weight). The weight comes back in its own dtype, the bias in that of the
    computation, as it is added to the accumulator.

    Args:
        weight: (O, I, kh, kw).
        bias: (O,) of the convolution, or None.
        mean, var: (O,) running statistics.
        bn_weight, bn_bias: (O,) or None.
    """
    dtype = accumulation_dtype(weight)
    scale = torch.rsqrt(var.to(dtype) + eps)
    if bn_weight is not None:
        scale = scale * bn_weight.to(dtype)
    offset = -mean.to(dtype) if bias is None else bias.to(dtype) - mean.to(dtype)
    shift = scale * offset
    if bn_bias is not None:
        shift = shift + bn_bias.to(dtype)
    return (weight.to(dtype) * scale[:, None, None, None]).to(weight.dtype), shift
