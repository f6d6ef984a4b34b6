"""A chain in plain differentiable torch: the reference of training, and its double backward."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from .chain import DENSE, DEPTHWISE, NO_CONV, Chain, Unit, UnitTensors, unit_tensors
from .reference import accumulation_dtype, activation, as_matrix, channels_last, conv, se_gate
from .spec import Outputs


def _convolve(y: Tensor, unit: Unit, weight: Tensor | None) -> Tensor:
    if unit.conv == NO_CONV:
        return y
    weight = weight.to(y.dtype)
    if unit.conv in (DENSE, DEPTHWISE):
        g = unit.geometry
        return conv(y, weight, None, g[:2], g[2:4], g[4:], groups=y.shape[1] if unit.conv == DEPTHWISE else 1)
    return F.conv2d(y, as_matrix(weight)[:, :, None, None])


def _batch_norm(u: Tensor, unit: Unit, t: UnitTensors) -> tuple[Tensor, Tensor]:
    """The normalised output, and (mean, unbiased variance) of the batch, or what was given."""
    dtype = accumulation_dtype(u)
    gamma, beta = (None if p is None else p.to(dtype) for p in (t.bn_weight, t.bn_bias))
    if not unit.batch_stats:
        given = torch.stack([t.mean.to(dtype), t.var.to(dtype)])
        return F.batch_norm(u, *given.unbind(), gamma, beta, False, 0.0, unit.eps), given
    if unit.group is not None:
        return _shared_batch_norm(u.to(dtype), unit, gamma, beta, u.dtype)
    # With momentum 1 torch leaves the statistics of this batch in the buffers.
    mean, var = torch.zeros(2, u.shape[1], dtype=dtype, device=u.device).unbind()
    y = F.batch_norm(u, mean, var, gamma, beta, True, 1.0, unit.eps)
    return y, torch.stack([mean, var])


def _shared_batch_norm(
    x: Tensor, unit: Unit, gamma: Tensor | None, beta: Tensor | None, dtype: torch.dtype
) -> tuple[Tensor, Tensor]:
    """Batch norm by the statistics of all processes of the unit's group; gradients cross between them, too."""
    # Imported here: a torch without distributed has no such module, and no groups.
    from torch.distributed.nn.functional import all_reduce

    values = (0, 2, 3)
    count = all_reduce(x.new_tensor(x.shape[0] * x.shape[2] * x.shape[3]), group=unit.group)
    mean = all_reduce(x.sum(values), group=unit.group) / count
    away = x - mean[:, None, None]
    var = all_reduce(away.square().sum(values), group=unit.group) / count
    y = away * torch.rsqrt(var + unit.eps)[:, None, None]
    if gamma is not None:
        y = y * gamma[:, None, None]
    if beta is not None:
        y = y + beta[:, None, None]
    return y.to(dtype), torch.stack([mean, var * (count / (count - 1))])


def run(chain: Chain, x: Tensor, sample_scale: Tensor | None, *tensors: Tensor | None) -> tuple[Outputs, list[Tensor]]:
    """The chain's outputs, and (mean, unbiased variance) of every unit."""
    y, statistics = x, []
    for unit, t in zip(chain.units, unit_tensors(tensors), strict=True):
        if unit.squeeze_excite:
            pooled = y.mean((2, 3), dtype=accumulation_dtype(y))
            y = y * se_gate(pooled, *t.squeeze_excite, *unit.squeeze_excite).to(y.dtype)[:, :, None, None]
        y, stats = _batch_norm(_convolve(y, unit, t.weight), unit, t)
        y = activation(y, unit.act)
        statistics.append(stats.detach())
    if sample_scale is not None:
        y = y * sample_scale.to(y.dtype)[:, None, None, None]
    pooled = y.mean((2, 3), dtype=accumulation_dtype(y)) if chain.pool else None
    y = channels_last(y + x if chain.residual else y)
    return ((y, pooled) if chain.pool else y), statistics
