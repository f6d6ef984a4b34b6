"""Which modules a fused op may stand for: torch's own, with nothing attached to them that it would pass by."""

from __future__ import annotations

from torch import nn

from .conv import Conv2dSame
from .sync_batch_norm import SYNCHRONISED

CONVS = (nn.Conv2d, Conv2dSame)
NORMS = (nn.BatchNorm2d, *SYNCHRONISED)


def is_plain(module: nn.Module, types: tuple[type, ...]) -> bool:
    """Whether it is of exactly one of these types and has no hooks, forward or backward."""
    return type(module) in types and not (
        module._forward_hooks or module._forward_pre_hooks or module._backward_hooks or module._backward_pre_hooks
    )
