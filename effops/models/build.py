"""The one builder: a row of ``effops.arch`` becomes a module."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import TypeVar

from torch import nn

from effops import nn as effops_nn
from effops.arch import (
    Arch,
    Block,
    ConvBNAct,
    DepthwiseSeparable,
    FusedMBConv,
    InvertedResidual,
    MobileAttention,
    Norm,
    UniversalInvertedResidual,
)
from effops.errors import ArgumentError

from .feature_network import FeatureNetwork
from .network import Network
from .trunk import Trunk

TrunkT = TypeVar("TrunkT", bound=Trunk)


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
    _check_rate("drop_rate", drop_rate)
    network = Network(
        arch,
        _blocks(arch, in_chans, drop_path_rate),
        fusion=_fusion(arch),
        num_classes=num_classes,
        in_chans=in_chans,
        drop_rate=drop_rate,
        global_pool=global_pool,
        backend=backend,
    )
    return _finished(network, arch)


def build_features(
    arch: Arch,
    *,
    in_chans: int = 3,
    out_indices: int | Sequence[int] | None = None,
    drop_path_rate: float = 0.0,
    backend: str | None = None,
) -> FeatureNetwork:
    """Build a network without head that gives feature maps, with freshly drawn weights."""
    blocks = _blocks(arch, in_chans, drop_path_rate)
    network = FeatureNetwork(arch, blocks, in_chans=in_chans, out_indices=out_indices, backend=backend)
    return _finished(network, arch)


def _finished(network: TrunkT, arch: Arch) -> TrunkT:
    initialise(network)
    if arch.norm.kind != "batch":
        replace_norms(network, arch.norm)
    return network


def replace_norms(module: nn.Module, norm: Norm) -> None:
    """Put a fresh group norm or root mean square norm in the place of every batch norm."""
    for name, child in module.named_children():
        if isinstance(child, nn.BatchNorm2d):
            setattr(module, name, _other_norm(norm, child.num_features, child.eps))
        else:
            replace_norms(child, norm)


def _other_norm(norm: Norm, channels: int, eps: float) -> nn.Module:
    if norm.kind == "rms":
        return effops_nn.RmsNorm2d(channels, eps)
    return nn.GroupNorm(channels // norm.group_size, channels, eps=eps)


def _blocks(arch: Arch, in_chans: int, drop_path_rate: float) -> nn.Sequential:
    if in_chans < 1:
        raise ArgumentError(f"in_chans must be at least 1; got {in_chans}")
    _check_rate("drop_path_rate", drop_path_rate)
    depth = sum(len(stage) for stage in arch.stages)
    index = itertools.count()
    return nn.Sequential(
        *(
            nn.Sequential(
                *(build_block(block, arch, drop_path=drop_path_rate * next(index) / depth) for block in stage)
            )
            for stage in arch.stages
        )
    )


def _fusion(arch: Arch) -> effops_nn.MultiScaleFusion | None:
    if arch.fusion is None:
        return None
    block = arch.fusion.block
    norm = nn.BatchNorm2d(block.out_channels, eps=arch.bn_eps, momentum=arch.bn_momentum)
    return effops_nn.MultiScaleFusion(build_block(block, arch), norm, resolution=arch.fusion.resolution)


def _check_rate(name: str, rate: float) -> None:
    if not 0 <= rate < 1:
        raise ArgumentError(f"{name} must be in [0, 1); got {rate}")


def build_block(block: Block, arch: Arch, *, drop_path: float = 0.0) -> nn.Module:
    """The module of one block, with the padding and the batch norm of its network."""
    common = {
        "padding": "same" if arch.padding == "same" else None,
        "residual": block.residual,
        "drop_path": drop_path,
        "bn_eps": arch.bn_eps,
        "bn_momentum": arch.bn_momentum,
    }
    channels = block.in_channels, block.out_channels
    if isinstance(block, MobileAttention):
        return effops_nn.MobileAttention(
            *channels,
            heads=block.heads,
            key_channels=block.key_channels,
            key_stride=block.key_stride,
            kernel_size=block.kernel_size,
            layer_scale_init=block.layer_scale,
            **common,
        )
    style = {**common, "stride": block.stride, "act": block.act, "anti_alias": block.anti_alias}
    if isinstance(block, ConvBNAct):
        return effops_nn.ConvBNAct(*channels, block.kernel_size, **style)
    if block.se:
        style |= {"se_channels": block.se.channels, "se_act": block.se.act, "se_gate": block.se.gate}
    if isinstance(block, DepthwiseSeparable):
        style |= {"project_act": block.project_act, "group_size": block.group_size}
        return effops_nn.DepthwiseSeparable(*channels, block.kernel_size, **style)
    channels = block.in_channels, block.mid_channels, block.out_channels
    if isinstance(block, UniversalInvertedResidual):
        return effops_nn.UniversalInvertedResidual(
            *channels,
            start_kernel_size=block.start_kernel_size,
            mid_kernel_size=block.kernel_size,
            end_kernel_size=block.end_kernel_size,
            layer_scale_init=block.layer_scale,
            **style,
        )
    if isinstance(block, InvertedResidual) and block.experts:
        del style["anti_alias"]
        return effops_nn.CondMBConv(*channels, block.kernel_size, experts=block.experts, **style)
    style["group_size"] = block.group_size
    if isinstance(block, FusedMBConv):
        return effops_nn.FusedMBConv(*channels, block.kernel_size, **style)
    return effops_nn.MBConv(*channels, block.kernel_size, **style)


def initialise(network: nn.Module) -> None:
    """Draw convolution weights as tensorflow/tpu does: normal with variance 2 / fan out, biases zero.

    Fan out counts the output channels of one group, so that a depthwise convolution's is its number of taps. Attention
    is drawn as timm does, uniformly (Glorot and Bengio 2010).
    """
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            fan_out = math.prod(module.kernel_size) * module.out_channels // module.groups
            nn.init.normal_(module.weight, 0.0, math.sqrt(2.0 / fan_out))
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, effops_nn.CondMBConv):
            bound = (module.routing_fn.in_features + module.routing_fn.out_features) ** -0.5
            nn.init.uniform_(module.routing_fn.weight, -bound, bound)
            nn.init.zeros_(module.routing_fn.bias)
    for module in network.modules():
        if isinstance(module, effops_nn.MultiQueryAttention):
            for conv in (child for child in module.modules() if isinstance(child, nn.Conv2d)):
                nn.init.xavier_uniform_(conv.weight)
