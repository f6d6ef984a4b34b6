"""The public ops with live batch norm: ``act(BN(conv(x)))`` that trains, alone and in chains.

Forward, a convolution writes its raw output once and yields the statistics of the batch in the same pass; batch norm
and activation are one more pass, or none where the next convolution of a chain applies them while it reads. Backward,
what is needed of them is computed again from the raw output. Running statistics move once, outside the kernels, also
under activation checkpointing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..errors import ArgumentError
from . import backends, checks, checks_training
from .chain import DEPTHWISE, MEMORY, NO_CONV, Chain, Unit
from .folding import fold_batch_norm
from .functional import autocast, depthwise_conv_act
from .spec import Outputs


@dataclass
class BatchNorm:
    """A batch norm's tensors and constants, with the names and meanings of ``torch.nn.BatchNorm2d``.

    Attributes:
        weight, bias: (C,) or None.
        running_mean, running_var: (C,) buffers, updated in place in training; or None.
        training: normalise by the statistics of the batch and update the running ones; else by the running ones.
            Without running statistics the batch's are always used.
        momentum: weight of the new value; None for the cumulative average, which needs num_batches_tracked.
        num_batches_tracked: buffer that counts the updates, or None.
        group: process group whose processes share the statistics (synchronised batch norm), or None.
    """

    weight: Tensor | None
    bias: Tensor | None
    running_mean: Tensor | None
    running_var: Tensor | None
    training: bool = True
    momentum: float | None = 0.1
    eps: float = 1e-5
    num_batches_tracked: Tensor | None = None
    group: Any = None

    @property
    def uses_batch(self) -> bool:
        """Whether the statistics of the batch normalise it."""
        return self.training or self.running_mean is None


@dataclass
class SqueezeExcite:
    """The weights of a squeeze-excite, as :func:`effops.ops.squeeze_excite` takes them."""

    reduce_weight: Tensor
    reduce_bias: Tensor | None
    expand_weight: Tensor
    expand_bias: Tensor | None
    act: str = "relu"
    gate: str = "sigmoid"


@dataclass
class Layer:
    """One convolution with its batch norm and activation, in a chain.

    Attributes:
        conv: "pointwise", "depthwise", "dense", or "none" for a batch norm alone.
        weight: of the convolution: (O, C, 1, 1), (C, 1, kh, kw), (O, C, kh, kw), None.
        squeeze_excite: applied to the convolution's input; before pointwise convolutions only.
    """

    conv: str
    weight: Tensor | None
    batch_norm: BatchNorm
    stride: int | Sequence[int] = 1
    padding: int | str | Sequence[int] = 0
    dilation: int | Sequence[int] = 1
    act: str = "identity"
    squeeze_excite: SqueezeExcite | None = None


def conv_bn_chain(
    x: Tensor,
    layers: Sequence[Layer],
    *,
    residual: bool = False,
    sample_scale: Tensor | None = None,
    pool: bool = False,
    memory: str = "default",
) -> Outputs:
    """Convolutions with batch norm and activation, one after the other: ``act(BN(conv(...)))``, a block in training.

    Between two layers lies only the raw output of the first; this is what is kept for the backward pass, too.

    Args:
        x: (N, C, H, W).
        layers: only the first may be dense or without a convolution.
        residual: add x to the result.
        sample_scale: (N,) float32 factors of the result before x is added: stochastic depth.
        pool: also return the spatial mean of the result, (N, O) in float32; neither residual nor sample_scale then.
        memory: "default" keeps the raw output of every convolution; "low" does not keep that of a pointwise expansion
            in front, the largest, and computes it again in the backward pass.

    Returns:
        y (N, O, Ho, Wo), channels_last; with ``pool`` the pair (y, mean).

    Raises:
        ArgumentError: a shape, dtype, device or value does not fit; fewer than two values a channel.
        BackendError: a backend was asked for that cannot run the call.
    """
    checks.image(x)
    checks_training.layers(layers)
    # The kernels cast the weights: their gradients come back in float32 and are never rounded to x's dtype.
    cast = torch.is_autocast_enabled(x.device.type)
    (x,) = autocast(x)
    checks_training.sample_scale(sample_scale, x)
    if memory not in MEMORY:
        raise ArgumentError(f"memory must be one of {', '.join(MEMORY)}; got {memory!r}")
    if pool and (residual or sample_scale is not None):
        raise ArgumentError("pool gives the mean of the last layer: it goes with neither residual nor sample_scale")
    units, tensors, counts = [], [], []
    shape = x.shape
    for i, layer in enumerate(layers):
        bn, se = layer.batch_norm, layer.squeeze_excite
        shape, geometry = checks_training.layer(layer, shape, x, first=i == 0, any_dtype=cast)
        checks_training.batch_norm(bn, shape, x)
        codes = None if se is None else (checks.activation_code(se.act), checks.gate_code(se.gate))
        act = checks.activation_code(layer.act)
        units.append(Unit(layer.conv, geometry, act, bn.eps, bn.uses_batch, codes, bn.group))
        given = (None, None) if bn.uses_batch else (bn.running_mean, bn.running_var)
        gate = (None,) * 4 if se is None else (se.reduce_weight, se.reduce_bias, se.expand_weight, se.expand_bias)
        tensors += [layer.weight, bn.weight, bn.bias, *given, *gate]
        counts.append(shape[0] * shape[2] * shape[3])
    if residual and shape != x.shape:
        raise ArgumentError(
            f"residual needs an output of x's shape {tuple(x.shape)}; the layers give {tuple(shape)}. "
            "Use residual=False for this block"
        )
    chain = Chain(tuple(units), residual, pool, memory)
    outputs, statistics = backends.run_chain(chain, (x, sample_scale, *tensors))
    if not _runs_again():
        for layer, count, stats in zip(layers, counts, statistics, strict=False):
            _update(layer.batch_norm, stats, count)
    return outputs


def _runs_again() -> bool:
    """Whether this is the recomputation of a checkpoint: a forward pass inside a backward pass."""
    return not torch.compiler.is_compiling() and torch._C._current_graph_task_id() != -1


@torch.no_grad()
def _update(bn: BatchNorm, stats: Tensor, count: int) -> None:
    """Move the running statistics towards those of the batch (mean and unbiased variance)."""
    if not bn.training or bn.running_mean is None or count == 0:
        return
    if bn.num_batches_tracked is not None:
        bn.num_batches_tracked.add_(1)
    momentum = bn.momentum
    if momentum is None:
        momentum = 1 / bn.num_batches_tracked.to(stats.dtype)
    mean, var = stats.unbind()
    for running, new in ((bn.running_mean, mean), (bn.running_var, var)):
        # As torch does: in the statistics' own precision, rounded once.
        if running.dtype == new.dtype:
            running.lerp_(new, momentum)
        else:
            running.copy_(torch.lerp(running.to(stats.dtype), new, momentum))


def depthwise_conv_bn_act(
    x: Tensor,
    weight: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    bn_weight: Tensor | None = None,
    bn_bias: Tensor | None = None,
    *,
    stride: int | Sequence[int] = 1,
    padding: int | str | Sequence[int] = 0,
    dilation: int | Sequence[int] = 1,
    act: str = "identity",
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
    pool: bool = False,
) -> Tensor | tuple[Tensor, Tensor]:
    """Depthwise convolution, batch norm and activation: ``y = act(BN(dwconv(x, weight)))``.

    In training the convolution's pass also yields the statistics of the batch, and batch norm with activation is one
    more pass. Otherwise all is one pass over x. Kept for the backward pass: x and the raw output of the convolution.

    Args:
        x: (N, C, H, W).
        weight: (C, 1, kh, kw), x's dtype.
        running_mean, running_var: (C,), updated in place in training; None uses the batch's statistics.
        bn_weight, bn_bias: (C,) or None.
        stride, padding, dilation, act, pool: as in :func:`effops.ops.depthwise_conv_act`.
        training, momentum, eps: as in ``torch.nn.functional.batch_norm``.

    Returns:
        y (N, C, Ho, Wo), channels_last; with ``pool`` the pair (y, float32 mean (N, C)).

    Raises:
        ArgumentError: a shape, dtype, device or value does not fit.
        BackendError: a backend was asked for that cannot run the call.
    """
    bn = BatchNorm(bn_weight, bn_bias, running_mean, running_var, training, momentum, eps)
    if not bn.uses_batch:
        checks_training.depthwise_weight(weight, x)
        checks_training.batch_norm(bn, x.shape, x)
        folded, shift = fold_batch_norm(weight, None, running_mean, running_var, bn_weight, bn_bias, eps)
        convolution = {"stride": stride, "padding": padding, "dilation": dilation}
        return depthwise_conv_act(x, folded, shift, act=act, pool=pool, **convolution)
    layer = Layer(DEPTHWISE, weight, bn, stride, padding, dilation, act)
    return conv_bn_chain(x, [layer], pool=pool)


def batch_norm_act(
    x: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    *,
    act: str = "identity",
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    """Batch norm and activation: ``act(BN(x))``. Only x is kept for the backward pass.

    Args:
        x: (N, C, H, W).
        running_mean, running_var: (C,), updated in place in training; None uses the batch's statistics.
        weight, bias: (C,) or None.
        act: identity, relu, relu6, silu, hardswish or gelu.
        training, momentum, eps: as in ``torch.nn.functional.batch_norm``.

    Returns:
        (N, C, H, W), channels_last.

    Raises:
        ArgumentError: a shape, dtype, device or value does not fit.
        BackendError: a backend was asked for that cannot run the call.
    """
    bn = BatchNorm(weight, bias, running_mean, running_var, training, momentum, eps)
    return conv_bn_chain(x, [Layer(NO_CONV, None, bn, act=act)])


__all__ = [
    "BatchNorm",
    "Layer",
    "SqueezeExcite",
    "batch_norm_act",
    "conv_bn_chain",
    "depthwise_conv_bn_act",
]
