"""The networks as plain torch modules: one module a layer, nothing fused, under timm's ``state_dict`` keys.

What the peers run where timm has no network of that name. Independent of ``effops.nn``, whose modules are what
is measured.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from effops.arch import Arch, Block, Conv, SqueezeExcite

from .errors import BenchError
from .shapes import act_after
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


def _refuse(arch: Arch) -> None:
    """Stop at what timm alone has in plain torch."""
    found = {
        f"{arch.norm.kind} norm": arch.norm.kind != "batch",
        "attention": any(block.attention_macs(1, 1) for _, block in arch.blocks()),
        "layer scale": any(item.kind == "scale" for item in arch.learned()),
        "mixed kernels": any(conv.experts for conv in arch.convs()),
        "anti-aliasing": any(conv.anti_alias for conv in arch.convs()),
    }
    missing = [name for name, there in found.items() if there]
    if missing:
        raise BenchError(
            f"{arch.name} has {' and '.join(missing)}, which bench/plain.py lacks: its plain network is timm's. "
            "pip install -r requirements/peers.txt"
        )


class PlainBlock(nn.Module):
    """Convolution, batch norm and activation in the order of the arch's list, a gate before the projection."""

    def __init__(self, block: Block, arch: Arch):
        super().__init__()
        convs = [conv for conv in block.convs() if not conv.gating]
        for conv in convs:
            # Some have a module of their own around convolution and norm: ``dw_start.conv``, ``dw_start.bn``.
            folder, _, name = conv.name.rpartition(".")
            if folder:
                self.add_module(folder, nn.Module())
            place = getattr(self, folder) if folder else self
            place.add_module(name, _conv(conv, arch))
            place.add_module(conv.bn.rpartition(".")[2], _norm(conv.out_channels, arch))
        self.acts = nn.ModuleList(_Activation(act_after(block, conv)) for conv in convs)
        names = [conv.name for conv in block.convs()]
        se = getattr(block, "se", None)
        self._gated = names[names.index("se.conv_expand") + 1].rpartition(".")[::2] if se else None
        if se:
            self.se = _Gated(block.mid_channels if hasattr(block, "mid_channels") else block.in_channels, se)
        self._places = [(*conv.name.rpartition(".")[::2], conv.bn.rpartition(".")[2]) for conv in convs]
        self._residual = block.residual

    def forward(self, x: Tensor) -> Tensor:
        y = x
        for (folder, conv, norm), act in zip(self._places, self.acts, strict=True):
            place = getattr(self, folder) if folder else self
            y = self.se(y) if (folder, conv) == self._gated else y
            y = act(getattr(place, norm)(getattr(place, conv)(y)))
        return y + x if self._residual else y


class PlainNetwork(nn.Module):
    """A row of ``effops.arch`` in plain torch.

    Raises:
        BenchError: it has a part that only timm has in plain torch.
    """

    def __init__(self, arch: Arch):
        super().__init__()
        _refuse(arch)
        stem, head = arch.stem_conv(), arch.head_conv()
        self.conv_stem = _conv(stem, arch)
        self.bn1 = _norm(stem.out_channels, arch)
        self.act1 = _Activation(arch.stem.act)
        stages = (nn.Sequential(*(PlainBlock(block, arch) for block in stage)) for stage in arch.stages)
        self.blocks = nn.Sequential(*stages)
        self._norm_head = None
        if head:
            self.conv_head = _conv(head, arch)
            self.act2 = _Activation(arch.head.act)
        if head and head.bn:
            self._norm_head = head.bn
            self.add_module(head.bn, _norm(head.out_channels, arch))
        self.classifier = nn.Linear(arch.classifier_channels, arch.num_classes)
        self._has_head, self._pools_first = head is not None, head is not None and arch.head.pooled

    def _head(self, x: Tensor) -> Tensor:
        if not self._has_head:
            return x
        x = self.conv_head(x)
        return self.act2(getattr(self, self._norm_head)(x) if self._norm_head else x)

    def forward(self, x: Tensor) -> Tensor:
        x = self.blocks(self.act1(self.bn1(self.conv_stem(x))))
        x = self._head(x.mean((2, 3), keepdim=True)) if self._pools_first else self._head(x).mean((2, 3), keepdim=True)
        return self.classifier(x.flatten(1))
