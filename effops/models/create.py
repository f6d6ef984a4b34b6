"""The entry points of users: a model by name, and the names."""

from __future__ import annotations

import os

import torch

from effops.arch import find_arch, list_archs

from .build import build
from .network import Network
from .weights import load_checkpoint


# Weights made in inference mode would have no version counter: folded weights could not be cached for them.
@torch.inference_mode(False)
def create_model(
    name: str,
    *,
    num_classes: int = 1000,
    in_chans: int = 3,
    checkpoint: str | os.PathLike[str] | None = None,
    drop_rate: float = 0.0,
    drop_path_rate: float = 0.0,
    global_pool: str = "avg",
    backend: str | None = None,
) -> Network:
    """Build a model, in training mode, with fresh weights or those of a checkpoint.

    Args:
        name: timm's name, or torchvision's (``mobilenet_v2``, ``mobilenet_v3_large``). ``tf_`` models have
            TensorFlow's padding and batch norm eps, ``tv_efficientnet_*`` torchvision's numbers under names
            that timm uses too.
        num_classes: 0 for no classifier.
        in_chans: channels of the images; a checkpoint's stem for 3 is adapted.
        checkpoint: a ``.pth`` or ``.safetensors`` file in timm's, torchvision's or lukemelas' spelling. The
            last two are only loaded into models with the padding and eps that they were trained with.
        drop_rate: dropout before the classifier, in training.
        drop_path_rate: stochastic depth of the last block, in training; it grows linearly from 0 at the
            first.
        global_pool: "avg", "max", "avgmax", or "" for none (with num_classes=0).
        backend: run the forward on this backend of ``effops.backend``; None chooses op by op.

    Raises:
        ArgumentError: an unknown name (with near ones suggested), or an argument out of range.
        CheckpointError: the checkpoint cannot be read or does not belong to this model.
    """
    network = build(
        find_arch(name),
        num_classes=num_classes,
        in_chans=in_chans,
        drop_rate=drop_rate,
        drop_path_rate=drop_path_rate,
        global_pool=global_pool,
        backend=backend,
    )
    if checkpoint is not None:
        load_checkpoint(network, checkpoint)
    return network


def list_models(glob: str = "*") -> list[str]:
    """Names of models that match a shell-style pattern such as ``"*efficientnet_b?"``, sorted."""
    return list_archs(glob)
