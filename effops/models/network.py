"""The classifier network of all families: stem, stages of blocks, head."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from effops.arch import Arch
from effops.errors import ArgumentError
from effops.nn.conv import conv2d
from effops.nn.units import Unit, UnitModule
from effops.ops.backends import backend as use_backend

from .pooling import GlobalPool


class Network(UnitModule):
    """A network built from a row of ``effops.arch``; make one with :func:`effops.create_model`.

    In eval every convolution runs with its batch norm folded through ``effops.ops``; in training every block is a
    chain of :func:`effops.ops.conv_bn_chain`. The ``state_dict`` is the unfolded one, under timm's keys, in both.

    Attributes:
        arch: the row it was built from.
        num_features: channels that leave :meth:`forward_features`.
        head_hidden_size: inputs of the classifier.
        default_cfg: preprocessing and the names of the first and last layer, as timm's models have it.
        drop_rate: dropout before the classifier, in training.
        backend: name of the backend that the forward runs on, None for the best one.
    """

    def __init__(
        self,
        arch: Arch,
        blocks: nn.Sequential,
        *,
        num_classes: int,
        in_chans: int,
        drop_rate: float,
        global_pool: str,
        backend: str | None,
    ) -> None:
        super().__init__()
        self.arch = arch
        self.in_chans = in_chans
        self.drop_rate = drop_rate
        self.backend = backend
        self.grad_checkpointing = False
        self.num_features = arch.num_features
        self.head_hidden_size = arch.classifier_channels

        stem = arch.stem_conv(in_chans)
        self.conv_stem = conv2d(
            stem.in_channels,
            stem.out_channels,
            stem.kernel_size,
            stride=stem.stride,
            padding="same" if arch.padding == "same" else None,
        )
        self.bn1 = nn.BatchNorm2d(stem.out_channels, eps=arch.bn_eps, momentum=arch.bn_momentum)
        self.blocks = blocks
        if head := arch.head_conv():
            self.conv_head = conv2d(head.in_channels, head.out_channels, head.kernel_size, bias=head.bias)
            if head.bn:
                norm = nn.BatchNorm2d(head.out_channels, eps=arch.bn_eps, momentum=arch.bn_momentum)
                self.add_module(head.bn, norm)
        self._set_classifier(num_classes, global_pool)

    @property
    def default_cfg(self) -> dict[str, Any]:
        preprocessing = self.arch.preprocessing
        return {
            "architecture": self.arch.name,
            "num_classes": self.num_classes,
            "input_size": (self.in_chans, preprocessing.resolution, preprocessing.resolution),
            "crop_pct": preprocessing.crop_pct,
            "interpolation": preprocessing.interpolation,
            "mean": preprocessing.mean,
            "std": preprocessing.std,
            "first_conv": "conv_stem",
            "classifier": "classifier",
        }

    def forward(self, x: Tensor) -> Tensor:
        """Logits (N, num_classes) of images (N, in_chans, H, W)."""
        self._check_input(x)
        with nullcontext() if self.backend is None else use_backend(self.backend):
            return self.forward_head(self.forward_features(x))

    def forward_features(self, x: Tensor) -> Tensor:
        """The feature map (N, num_features, H/32, W/32) before pooling."""
        x = self._conv_bn_act("conv_stem", "bn1", x, self.arch.stem.act)
        if self.grad_checkpointing and self.training:
            for stage in self.blocks:
                x = checkpoint(stage, x, use_reentrant=False)
        else:
            x = self.blocks(x)
        head = self.arch.head
        return x if head is None or head.pooled else self._conv_bn_act("conv_head", head.bn, x, head.act)

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """Pool the feature map and classify it; ``pre_logits`` stops before dropout and the classifier."""
        x = self.global_pool(x)
        head = self.arch.head
        if head is not None and head.pooled:
            x = self._conv_bn_act("conv_head", head.bn, x, head.act)
        if self.global_pool.name:
            x = x.flatten(1)
        if pre_logits:
            return x
        return self.classifier(F.dropout(x, p=self.drop_rate, training=self.training))

    def get_classifier(self) -> nn.Module:
        """The last linear layer; ``nn.Identity`` when num_classes is 0."""
        return self.classifier

    def reset_classifier(self, num_classes: int, global_pool: str = "avg") -> None:
        """Replace the classifier by a new one of the model's device and dtype; 0 classes removes it."""
        weight = self.conv_stem.weight
        self._set_classifier(num_classes, global_pool)
        self.classifier.to(device=weight.device, dtype=weight.dtype).train(self.training)
        self.global_pool.train(self.training)

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """In training, keep only the stages' inputs and recompute the rest in the backward pass.

        Running statistics move once all the same: a recomputation leaves them alone.
        """
        self.grad_checkpointing = enable

    def _set_classifier(self, num_classes: int, global_pool: str) -> None:
        if num_classes < 0:
            raise ArgumentError(f"num_classes must be 0 (no classifier) or more; got {num_classes}")
        pool = GlobalPool(global_pool)
        if num_classes and not global_pool:
            raise ArgumentError(
                f"global_pool='' leaves a feature map, no vector for a classifier of {num_classes} classes; "
                "use num_classes=0 with it"
            )
        self.num_classes = num_classes
        self.global_pool = pool
        self.classifier = nn.Linear(self.head_hidden_size, num_classes) if num_classes else nn.Identity()
        if num_classes:
            # tensorflow/tpu: uniform within 1 / sqrt(fan out), no bias.
            nn.init.uniform_(self.classifier.weight, -(num_classes**-0.5), num_classes**-0.5)
            nn.init.zeros_(self.classifier.bias)

    def _conv_bn_act(self, conv_name: str, bn_name: str | None, x: Tensor, act: str) -> Tensor:
        modules = self._modules
        return self._run([Unit(conv_name, modules[conv_name], bn_name and modules[bn_name], act)], x)

    def _check_input(self, x: Tensor) -> None:
        if x.dim() != 4 or x.shape[1] != self.in_chans:
            raise ArgumentError(
                f"x must be (N, {self.in_chans}, H, W) for {self.arch.name}; got shape {tuple(x.shape)}"
            )
