"""Batch norm whose statistics several processes share, on any device."""

from __future__ import annotations

from typing import Any

import torch.distributed as dist
from torch import Tensor, nn

from effops.ops.training import BatchNorm, Layer, conv_bn_chain


class SyncBatchNorm2d(nn.BatchNorm2d):
    """``nn.BatchNorm2d`` over the batches of all processes of a group, in training. Same state, same keys.

    torch's own ``nn.SyncBatchNorm`` works on GPUs alone, and DDP refuses it elsewhere.

    Args:
        process_group: processes that share statistics, None for all.
    """

    def __init__(self, num_features: int, *args: Any, process_group: Any = None, **kwargs: Any) -> None:
        super().__init__(num_features, *args, **kwargs)
        self.process_group = process_group

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return super().forward(x)
        return conv_bn_chain(x, [Layer("none", None, batch_norm_of(self))])


SYNCHRONISED = (nn.SyncBatchNorm, SyncBatchNorm2d)


def _group(bn: nn.Module) -> Any:
    """The process group of a synchronised batch norm that has somebody to synchronise with."""
    if not (bn.training and isinstance(bn, SYNCHRONISED) and dist.is_available() and dist.is_initialized()):
        return None
    group = bn.process_group or dist.group.WORLD
    return group if dist.get_world_size(group) > 1 else None


def batch_norm_of(bn: nn.Module) -> BatchNorm:
    """A batch norm module as the ops take it."""
    running = bn.running_mean, bn.running_var
    constants = bn.training, bn.momentum, bn.eps
    return BatchNorm(bn.weight, bn.bias, *running, *constants, bn.num_batches_tracked, _group(bn))


def convert_sync_batchnorm(model: nn.Module, process_group: Any = None) -> nn.Module:
    """Let the batch norms of a model share their statistics between processes; returns the model.

    The activations belong to the blocks, not to their batch norms, and stay; so do parameters, buffers and keys. The
    processes exchange statistics by collectives of the group, on any device: gloo on CPUs, NCCL on GPUs.

    Args:
        process_group: processes that share statistics, None for all.
    """
    if type(model) is nn.BatchNorm2d:
        twin = SyncBatchNorm2d(
            model.num_features,
            model.eps,
            model.momentum,
            model.affine,
            model.track_running_stats,
            process_group=process_group,
        )
        twin._parameters, twin._buffers = model._parameters, model._buffers
        return twin.train(model.training)
    for name, child in model.named_children():
        setattr(model, name, convert_sync_batchnorm(child, process_group))
    return model
