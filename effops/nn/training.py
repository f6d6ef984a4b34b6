"""Modules as layers of a chain: what runs when a block trains (:func:`effops.ops.conv_bn_chain`)."""

from __future__ import annotations

from torch import nn

from effops.errors import ArgumentError
from effops.ops.chain import DENSE, DEPTHWISE, MEMORY, POINTWISE
from effops.ops.training import Layer

from .conv import op_padding
from .plain import CONVS, NORMS, is_plain
from .squeeze_excite import SqueezeExcite
from .sync_batch_norm import batch_norm_of


def _kind(conv: nn.Conv2d) -> str | None:
    if conv.groups == 1:
        plain = conv.kernel_size == (1, 1) and conv.stride == (1, 1) and conv.padding == (0, 0)
        return POINTWISE if plain else DENSE
    return DEPTHWISE if conv.groups == conv.in_channels == conv.out_channels else None


def layer(conv: nn.Module, bn: nn.Module | None, act: str, se: nn.Module | None = None) -> Layer | None:
    """The layer that computes ``act(bn(conv(se(x))))``, or None when these modules have to run one by one.

    They have to when one of them is not the plain torch module (replaced, parametrized, quantized), has hooks, which a
    fused op would pass by, or when the convolution has a bias or is grouped but not depthwise.
    """
    if bn is None or not is_plain(conv, CONVS) or not is_plain(bn, NORMS):
        return None
    kind = _kind(conv)
    if kind is None or conv.bias is not None or conv.padding_mode != "zeros":
        return None
    gate = None
    if isinstance(se, SqueezeExcite):
        if kind != POINTWISE or not se.is_plain():
            return None
        gate = se.gate_weights()
    elif se is not None and not is_plain(se, (nn.Identity,)):
        return None
    return Layer(kind, conv.weight, batch_norm_of(bn), conv.stride, op_padding(conv), conv.dilation, act, gate)


def set_memory(model: nn.Module, memory: str) -> nn.Module:
    """Choose what the blocks of a model keep between the forward and the backward pass; returns the model.

    Args:
        memory: "default" keeps the raw output of every convolution: batch norm, activation and squeeze-excite are
            computed again, which costs no extra pass. "low" drops the expanded tensor of every inverted residual, too,
            and convolves again in the backward pass.
    """
    if memory not in MEMORY:
        raise ArgumentError(f"memory must be one of {', '.join(MEMORY)}; got {memory!r}")

    def choose(module: nn.Module) -> None:
        if hasattr(module, "memory"):
            module.memory = memory

    return model.apply(choose)
