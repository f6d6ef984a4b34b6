"""A chain on the training kernels: forward, backward, and what is kept between the two."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from . import reference_chain
from .backward import dense_conv
from .chain import DENSE, DEPTHWISE, NO_CONV, POINTWISE, UNIT_TENSORS, Chain, Unit, UnitTensors, unit_tensors
from .spec import Outputs

_IDENTITY = 0
# A namespace of torch.ops that holds the rows of the op table.
Ops = Any
# Saved for the backward pass: the chain's input and sample_scale, then so many tensors a unit, then the units' own.
_INPUTS, _KEPT = 2, 5


@dataclass
class _View:
    """What a convolution reads: act((x - mean) scale + shift) gate, with affine = (mean, scale, shift)."""

    x: Tensor
    affine: Tensor | None = None
    act: int = _IDENTITY
    gate: Tensor | None = None


def _convolve(ops: Ops, unit: Unit, view: _View, weight: Tensor | None) -> tuple[Tensor, Tensor]:
    """The raw output and its statistics."""
    if unit.conv == POINTWISE:
        return ops.pointwise_conv_stats(view.x, view.affine, view.gate, weight.to(view.x.dtype), view.act)
    if unit.conv == DEPTHWISE:
        return ops.depthwise_conv_stats(view.x, view.affine, weight.to(view.x.dtype), *unit.geometry, view.act)
    u = view.x
    if unit.conv == DENSE:
        u = ops.conv_act(u, weight.to(u.dtype), None, *unit.geometry, _IDENTITY)
    return u, ops.batch_norm_stats(u)


def _count(u: Tensor) -> int:
    return u.shape[0] * u.shape[2] * u.shape[3]


def _join(stats: Tensor, count: int, group: Any) -> tuple[Tensor, float]:
    """Statistics and number of values of all processes of the group, by Chan's formula."""
    own = torch.cat([stats.flatten(), stats.new_tensor([count])])
    gathered = [torch.empty_like(own) for _ in range(dist.get_world_size(group))]
    dist.all_gather(gathered, own, group=group)
    parts = torch.stack(gathered)
    counts, (means, variances) = parts[:, -1:], parts[:, :-1].unflatten(1, (2, -1)).unbind(1)
    total = counts.sum()
    mean = (means * counts).sum(0) / total
    var = ((variances + (means - mean).square()) * counts).sum(0) / total
    return torch.stack([mean, var]), total


def _affine(stats: Tensor, unit: Unit, t: UnitTensors) -> tuple[Tensor, Tensor]:
    """(mean, scale, shift) of the batch norm, and 1 / sqrt(var + eps)."""
    mean, var = stats.unbind()
    invstd = torch.rsqrt(var + unit.eps)
    scale = invstd if t.bn_weight is None else invstd * t.bn_weight.to(stats.dtype)
    shift = torch.zeros_like(mean) if t.bn_bias is None else t.bn_bias.to(stats.dtype)
    return torch.stack([mean, scale, shift]), invstd


def _unbiased(stats: Tensor, count: Tensor | float) -> Tensor:
    """Mean and unbiased variance: what running statistics average."""
    return (
        torch.stack([stats[0], stats[1] * (count / (count - 1))]) if isinstance(count, Tensor) or count > 1 else stats
    )


def _per_channel(sample_scale: Tensor | None, channels: int) -> Tensor | None:
    return None if sample_scale is None else sample_scale[:, None].expand(-1, channels)


@dataclass
class _Step:
    """One unit after its forward pass."""

    view: _View  # what its convolution read
    u: Tensor | None  # its raw output; None until it is computed again
    affine: Tensor
    invstd: Tensor
    count: Tensor | float
    pooled: Tensor | None  # what its squeeze-excite saw


def _forward(
    ops: Ops, chain: Chain, x: Tensor, sample_scale: Tensor | None, tensors: Sequence[Tensor | None]
) -> tuple[Outputs, list[Tensor], list[_Step]]:
    view, steps, statistics = _View(x), [], []
    for unit, t in zip(chain.units, unit_tensors(tensors), strict=True):
        pooled = None
        if unit.squeeze_excite:
            pooled = ops.batch_norm_pool(view.x, view.affine, view.act)
            view.gate = ops.se_gate(pooled, *t.squeeze_excite, *unit.squeeze_excite)
        u, stats = _convolve(ops, unit, view, t.weight)
        count: Tensor | float = _count(u)
        if not unit.batch_stats:
            stats = torch.stack([t.mean, t.var]).to(stats.dtype)
        elif unit.group is not None:
            stats, count = _join(stats, count, unit.group)
        affine, invstd = _affine(stats, unit, t)
        if unit.batch_stats:
            stats = _unbiased(stats, count)
        steps.append(_Step(view, u, affine, invstd, count, pooled))
        statistics.append(stats)
        view = _View(u, affine, unit.act)
    if chain.pool:
        return ops.batch_norm_apply_pool(view.x, view.affine, view.act), statistics, steps
    gate = _per_channel(sample_scale, view.x.shape[1])
    y = ops.batch_norm_apply(view.x, view.affine, gate, x if chain.residual else None, view.act)
    return y, statistics, steps


@dataclass
class _Grad:
    """The gradient of a view, with what of it has been reduced to sums already."""

    value: Tensor
    sums: Tensor
    gate: Tensor | None = None
    pool_grad: Tensor | None = None


def _batch_norm_backward(unit: Unit, step: _Step, grad: _Grad) -> tuple[Tensor, Tensor, Tensor]:
    """coef of the unit's GradView, and the gradients of the batch norm's weight and bias."""
    _, g_slope, slope, g_away, away = grad.sums.unbind()
    if grad.gate is not None:
        g_slope, g_away = g_slope * grad.gate, g_away * grad.gate
    if grad.pool_grad is not None:
        g_slope = torch.addcmul(g_slope, slope, grad.pool_grad)
        g_away = torch.addcmul(g_away, away, grad.pool_grad)
    sums = torch.stack([g_slope, g_away]).sum(1)
    d_bias, d_weight = sums[0], sums[1] * step.invstd
    if not unit.batch_stats:
        return torch.cat([step.affine, torch.zeros_like(sums)]), d_weight, d_bias
    if unit.group is not None:
        sums = sums.clone()
        dist.all_reduce(sums, group=unit.group)
    scale = step.affine[1] / step.count
    through = torch.stack([-scale * step.invstd.square() * sums[1], -scale * sums[0]])
    return torch.cat([step.affine, through]), d_weight, d_bias


def _conv_backward(
    ops: Ops, unit: Unit, step: _Step, grad: _Grad, coef: Tensor, weight: Tensor | None, needs: tuple[bool, bool]
) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    """Gradients of the convolution's view and weight, and the sums for the unit below."""
    view = step.view
    g = (grad.value, step.u, coef, grad.gate, grad.pool_grad, unit.act)
    if unit.conv == POINTWISE:
        weight = weight.to(view.x.dtype)
        return ops.pointwise_conv_backward(*g, view.x, view.affine, view.gate, view.act, weight, *needs)
    if unit.conv == DEPTHWISE:
        weight = weight.to(view.x.dtype)
        return ops.depthwise_conv_backward(*g, view.x, view.affine, view.act, weight, *unit.geometry, *needs)
    if not any(needs):
        return None, None, None
    du = ops.batch_norm_grad_apply(*g)
    if unit.conv == NO_CONV:
        return du, None, None
    dx, dweight = dense_conv(du, view.x, weight.to(view.x.dtype), unit.geometry, needs)
    return dx, dweight, None


class TrainChain(torch.autograd.Function):
    """A chain, from its raw convolution outputs forward and backward.

    Outputs: those of the chain, then (mean, unbiased variance) of every unit, which take no gradient.
    """

    @staticmethod
    def forward(
        ctx: Any, namespace: str, chain: Chain, x: Tensor, sample_scale: Tensor | None, *tensors: Tensor | None
    ) -> tuple[Tensor, ...]:
        outputs, statistics, steps = _forward(getattr(torch.ops, namespace), chain, x, sample_scale, tensors)
        ctx.namespace, ctx.chain = namespace, chain
        ctx.counts = [step.count for step in steps]
        kept = []
        for i, step in enumerate(steps):
            gate = step.view.gate
            kept += [None if chain.recomputed(i) else step.u, step.affine, step.invstd, step.pooled, gate]
        ctx.save_for_backward(x, sample_scale, *kept, *tensors)
        ctx.mark_non_differentiable(*statistics)
        return (*(outputs if chain.pool else (outputs,)), *statistics)

    @staticmethod
    def backward(ctx: Any, dy: Tensor, *rest: Tensor | None) -> tuple[Tensor | None, ...]:
        if torch.is_grad_enabled():
            return _double_backward(ctx, dy, rest[0] if ctx.chain.pool else None)
        ops, chain, needs = getattr(torch.ops, ctx.namespace), ctx.chain, ctx.needs_input_grad[1:]
        sample_scale, steps, tensors = _restore(ctx)
        last, u = chain.units[-1], steps[-1].u
        pool_grad = rest[0] / (u.shape[2] * u.shape[3]) if chain.pool else None
        sums = ops.batch_norm_grad_sums(dy, u, steps[-1].affine, last.act)
        grad = _Grad(dy, sums, _per_channel(sample_scale, u.shape[1]), pool_grad)
        d_scale = sums[0].sum(1) if sample_scale is not None and needs[2] else None
        found: list[Tensor | None] = [None] * len(tensors)
        dx, by_unit = None, unit_tensors(tensors)
        for i in reversed(range(len(steps))):
            unit, step, t, at = chain.units[i], steps[i], by_unit[i], i * UNIT_TENSORS
            wanted = needs[3 + at : 3 + at + UNIT_TENSORS]
            # What lies below: the unit's squeeze-excite, the units before it, the chain's input.
            need_x = needs[1] or any(needs[3 : at + 3]) or any(wanted[5:])
            if i and chain.recomputed(i - 1):
                _recompute(ops, chain.units[i - 1], steps[i - 1], step, by_unit[i - 1].weight)
            coef, found[at + 1], found[at + 2] = _batch_norm_backward(unit, step, grad)
            dx, found[at], sums = _conv_backward(ops, unit, step, grad, coef, t.weight, (need_x, wanted[0]))
            if not need_x:
                break
            grad = _Grad(dx, sums)
            if unit.squeeze_excite:
                gate = step.view.gate
                d_pooled, *found[at + 5 : at + UNIT_TENSORS] = ops.se_gate_backward(
                    sums[0], gate, step.pooled, *t.squeeze_excite, *unit.squeeze_excite
                )
                grad.gate, grad.pool_grad = gate, d_pooled / (step.view.x.shape[2] * step.view.x.shape[3])
        if chain.residual and needs[1]:
            dx.add_(dy)
        params = (
            g.to(p.dtype).view(p.shape) if g is not None and p is not None and n else None
            for g, p, n in zip(found, tensors, needs[3:], strict=True)
        )
        return (None, None, dx if needs[1] else None, d_scale, *params)


def _recompute(ops: Ops, unit: Unit, step: _Step, above: _Step, weight: Tensor) -> None:
    step.u, _ = _convolve(ops, unit, step.view, weight)
    above.view.x = step.u


def _restore(ctx: Any) -> tuple[Tensor | None, list[_Step], tuple[Tensor | None, ...]]:
    """What the forward pass kept."""
    chain, saved = ctx.chain, ctx.saved_tensors
    x, sample_scale = saved[:_INPUTS]
    steps, view = [], _View(x)
    for i, unit in enumerate(chain.units):
        u, affine, invstd, pooled, gate = saved[_INPUTS + _KEPT * i : _INPUTS + _KEPT * (i + 1)]
        view.gate = gate
        steps.append(_Step(view, u, affine, invstd, ctx.counts[i], pooled))
        view = _View(u, affine, unit.act)
    return sample_scale, steps, saved[_INPUTS + _KEPT * len(chain.units) :]


def _double_backward(ctx: Any, dy: Tensor, d_pooled: Tensor | None) -> tuple[Tensor | None, ...]:
    """Gradients that can be differentiated again: those of the reference, from the saved inputs."""
    chain, saved = ctx.chain, ctx.saved_tensors
    inputs = (*saved[:_INPUTS], *saved[_INPUTS + _KEPT * len(chain.units) :])
    with torch.enable_grad():
        outputs, _ = reference_chain.run(chain, *inputs)
    outputs = outputs if chain.pool else (outputs,)
    wanted = [t for t, need in zip(inputs, ctx.needs_input_grad[2:], strict=True) if need]
    grads = (dy, d_pooled) if chain.pool else (dy,)
    found = iter(torch.autograd.grad(outputs, wanted, grads, create_graph=True))
    return (None, None, *(next(found) if need else None for need in ctx.needs_input_grad[2:]))
