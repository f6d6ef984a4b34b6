"""The networks as plain torch modules: one module a layer, nothing fused, under timm's ``state_dict`` keys.

What the peers run where timm has no network of that name. Independent of ``effops.nn``, whose modules are what
is measured.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from effops.arch import Arch, Block, Conv, ConvBNAct, SqueezeExcite

from .unfused import ACTIVATIONS, GATES, same_padding

# Autograd copies what these overwrite, because their gradients need it.
_KEPT_IN_TRAINING = {"silu": F.silu, "hardswish": F.hardswish}


class _SamePadded(nn.Conv2d):
    """TensorFlow's SAME, at any stride."""

    def forward(self, x: Tensor) -> Tensor:
        rows, columns = (same_padding(x.shape[2 + i], self.kernel_size[i], self.stride[i]) for i in (0, 1))
        return super().forward(F.pad(x, (*columns, *rows)))


class _Activation(nn.Module):
    def __init__(self, name: str):
        super().__init__()
        self.name = name

    def forward(self, x: Tensor) -> Tensor:
        functions = ACTIVATIONS | _KEPT_IN_TRAINING if self.training else ACTIVATIONS
        return functions[self.name](x)


class _Gated(nn.Module):
    """x * gate(W2 act(W1 mean(x) + b1) + b2)."""

    def __init__(self, channels: int, se: SqueezeExcite):
        super().__init__()
        self.conv_reduce = nn.Conv2d(channels, se.channels, 1)
        self.act = _Activation(se.act)
        self.conv_expand = nn.Conv2d(se.channels, channels, 1)
        self.gate = se.gate

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.act(self.conv_reduce(x.mean((2, 3), keepdim=True)))
        return x * GATES[self.gate](self.conv_expand(hidden))


def _conv(conv: Conv, arch: Arch) -> nn.Conv2d:
    arguments = {"stride": conv.stride, "groups": conv.groups, "bias": conv.bias}
    if arch.padding == "same" and conv.stride > 1:
        return _SamePadded(conv.in_channels, conv.out_channels, conv.kernel_size, **arguments)
    padding = (conv.kernel_size - 1) // 2
    return nn.Conv2d(conv.in_channels, conv.out_channels, conv.kernel_size, padding=padding, **arguments)


def _norm(channels: int, arch: Arch) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, eps=arch.bn_eps, momentum=arch.bn_momentum)


class _PlainBlock(nn.Module):
    """Convolution, batch norm and activation in the order of the arch's list; the last of several is linear."""

    def __init__(self, block: Block, arch: Arch):
        super().__init__()
        convs = [conv for conv in block.convs() if not conv.gating]
        for conv in convs:
            self.add_module(conv.name, _conv(conv, arch))
            self.add_module(conv.bn, _norm(conv.out_channels, arch))
        self.act = _Activation(block.act)
        se = getattr(block, "se", None)
        self.se = _Gated(convs[-1].in_channels, se) if se else nn.Identity()
        self._linear = not isinstance(block, ConvBNAct)
        self._names = [(conv.name, conv.bn) for conv in convs]
        self._residual = block.residual

    def forward(self, x: Tensor) -> Tensor:
        y = x
        for conv, norm in self._names:
            last = self._linear and conv == self._names[-1][0]
            y = getattr(self, norm)(getattr(self, conv)(self.se(y) if last else y))
            y = y if last else self.act(y)
        return y + x if self._residual else y


class PlainNetwork(nn.Module):
    """A row of ``effops.arch`` in plain torch."""

    def __init__(self, arch: Arch, num_classes: int = 1000):
        super().__init__()
        stem, head = arch.stem_conv(), arch.head_conv()
        self.conv_stem = _conv(stem, arch)
        self.bn1 = _norm(stem.out_channels, arch)
        self.act1 = _Activation(arch.stem.act)
        stages = (nn.Sequential(*(_PlainBlock(block, arch) for block in stage)) for stage in arch.stages)
        self.blocks = nn.Sequential(*stages)
        self.conv_head = _conv(head, arch)
        self.bn2 = _norm(head.out_channels, arch) if arch.head.norm else nn.Identity()
        self.act2 = _Activation(arch.head.act)
        self.classifier = nn.Linear(head.out_channels, num_classes)
        self._pools_first = arch.head.pooled

    def forward(self, x: Tensor) -> Tensor:
        x = self.blocks(self.act1(self.bn1(self.conv_stem(x))))
        if self._pools_first:
            x = x.mean((2, 3), keepdim=True)
        x = self.act2(self.bn2(self.conv_head(x)))
        if not self._pools_first:
            x = x.mean((2, 3), keepdim=True)
        return self.classifier(x.flatten(1))
