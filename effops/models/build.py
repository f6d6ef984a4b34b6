"""The one builder: a row of ``effops.arch`` becomes a module."""

from __future__ import annotations

import math

from torch import nn

from effops.arch import Arch, Block, ConvBNAct, DepthwiseSeparable, InvertedResidual
from effops.errors import ArgumentError
from effops.nn import ConvBNAct as ConvBNActModule
from effops.nn import DepthwiseSeparable as DepthwiseSeparableModule
from effops.nn import MBConv

from .network import Network


def build(
    arch: Arch,
    *,
    num_classes: int = 1000,
    in_chans: int = 3,
    drop_rate: float = 0.0,
    drop_path_rate: float = 0.0,
    global_pool: str = "avg",
    backend: str | None = None,
) -> Network:
    """Build a network with freshly drawn weights.

    Args:
        drop_path_rate: stochastic depth of the last block; it grows linearly from 0 at the first.
    """
    if in_chans < 1:
        raise ArgumentError(f"in_chans must be at least 1; got {in_chans}")
    for name, rate in (("drop_rate", drop_rate), ("drop_path_rate", drop_path_rate)):
        if not 0 <= rate < 1:
            raise ArgumentError(f"{name} must be in [0, 1); got {rate}")
    depth = sum(len(stage) for stage in arch.stages)
    index = 0
    stages = []
    for stage in arch.stages:
        modules = []
        for block in stage:
            modules.append(build_block(block, arch, drop_path=drop_path_rate * index / depth))
            index += 1
        stages.append(nn.Sequential(*modules))
    network = Network(
        arch,
        nn.Sequential(*stages),
        num_classes=num_classes,
        in_chans=in_chans,
        drop_rate=drop_rate,
        global_pool=global_pool,
        backend=backend,
    )
    initialise(network)
    return network


def build_block(block: Block, arch: Arch, *, drop_path: float = 0.0) -> nn.Module:
    """The module of one block, with the padding and the batch norm of its network."""
    style = {
        "stride": block.stride,
        "padding": "same" if arch.padding == "same" else None,
        "act": block.act,
        "bn_eps": arch.bn_eps,
        "bn_momentum": arch.bn_momentum,
    }
    if isinstance(block, ConvBNAct):
        return ConvBNActModule(block.in_channels, block.out_channels, block.kernel_size, **style)
    if isinstance(block, (DepthwiseSeparable, InvertedResidual)):
        style |= {"residual": block.residual, "drop_path": drop_path}
        if block.se:
            style |= {"se_channels": block.se.channels, "se_act": block.se.act, "se_gate": block.se.gate}
        if isinstance(block, DepthwiseSeparable):
            return DepthwiseSeparableModule(block.in_channels, block.out_channels, block.kernel_size, **style)
        return MBConv(block.in_channels, block.mid_channels, block.out_channels, block.kernel_size, **style)
    raise ArgumentError(f"no module is known for a block of kind {type(block).__name__}")


def initialise(network: nn.Module) -> None:
    """Draw convolution weights as tensorflow/tpu does: normal with variance 2 / fan out, biases zero.

    Fan out counts the output channels of one group, so that a depthwise convolution's is its number of taps.
    """
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            fan_out = math.prod(module.kernel_size) * module.out_channels // module.groups
            nn.init.normal_(module.weight, 0.0, math.sqrt(2.0 / fan_out))
            if module.bias is not None:
                nn.init.zeros_(module.bias)
