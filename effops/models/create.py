"""The entry points of users: a model by name, and the names."""

from __future__ import annotations

import os
from collections.abc import Sequence

import torch

from effops.arch import find_arch, list_archs
from effops.errors import ArgumentError

from .build import build, build_features
from .feature_network import FeatureNetwork
from .network import Network
from .weights import load


# Weights made in inference mode would have no version counter: folded weights could not be cached for them.
@torch.inference_mode(False)
def create_model(
    name: str,
    *,
    num_classes: int | None = None,
    in_chans: int = 3,
    checkpoint: str | os.PathLike[str] | None = None,
    features_only: bool = False,
    out_indices: int | Sequence[int] | None = None,
    drop_rate: float = 0.0,
    drop_path_rate: float = 0.0,
    global_pool: str | None = None,
    backend: str | None = None,
) -> Network | FeatureNetwork:
    """Build a model, in training mode, with fresh weights or those of a checkpoint.

    Args:
        name: timm's name, or torchvision's (``mobilenet_v2``, ``mobilenet_v3_large``). ``tf_`` models have
            TensorFlow's padding and batch norm eps, ``tv_efficientnet_*`` torchvision's numbers under names
            that timm uses too. A tag of timm's weights may follow, ``efficientnet_b0.ra_in1k``, for their preprocessing
            and number of classes; no weights are fetched.
        num_classes: None for 1000, those of the tag, or none for an encoder; 0 for no classifier.
        in_chans: channels of the images; a checkpoint's stem for 3 is adapted.
        checkpoint: a ``.pth`` or ``.safetensors`` file in timm's, torchvision's or lukemelas' spelling. The
            last two are only loaded into models with the padding and eps that they were trained with.
        features_only: no head; the forward gives a list of feature maps, the last of every size.
        out_indices: of those maps, negative from the end; a number for the last so many; None for all.
        drop_rate: dropout before the classifier, in training.
        drop_path_rate: stochastic depth of the last block, in training; it grows linearly from 0 at the
            first.
        global_pool: "avg", "max", "avgmax", or "" for none (with num_classes=0); None for "avg", and none for an
            encoder.
        backend: run the forward on this backend of ``effops.backend``; None chooses op by op.

    Raises:
        ArgumentError: an unknown name (with near ones suggested), or an argument out of range.
        CheckpointError: the checkpoint cannot be read or does not belong to this model.
    """
    arch = find_arch(name)
    if features_only:
        network = build_features(
            arch, in_chans=in_chans, out_indices=out_indices, drop_path_rate=drop_path_rate, backend=backend
        )
    elif out_indices is not None:
        raise ArgumentError(f"out_indices={out_indices!r} needs features_only=True")
    else:
        network = build(
            arch,
            num_classes=arch.num_classes if num_classes is None else num_classes,
            in_chans=in_chans,
            drop_rate=drop_rate,
            drop_path_rate=drop_path_rate,
            global_pool=arch.global_pool if global_pool is None else global_pool,
            backend=backend,
        )
    if checkpoint is not None:
        load(network, checkpoint)
    return network


def list_models(glob: str = "*") -> list[str]:
    """Names of models that match a shell-style pattern such as ``"*efficientnet_b?"``, sorted.

    A pattern with a dot, such as ``"mobilenetv4*.*"``, lists the weights whose preprocessing is known as ``name.tag``.
    """
    return list_archs(glob)
