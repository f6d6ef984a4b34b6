"""The classifier network of all families: stem, stages of blocks, head."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from effops.arch import Arch, features, take_indices
from effops.errors import ArgumentError
from effops.nn import MultiScaleFusion
from effops.nn.conv import conv2d

from .pooling import GlobalPool
from .trunk import Trunk


class Network(Trunk):
    """A network built from a row of ``effops.arch``; make one with :func:`effops.create_model`.

    In eval every convolution runs with its batch norm folded through ``effops.ops``; in training every block is a
    chain of :func:`effops.ops.conv_bn_chain`. The ``state_dict`` is the unfolded one, under timm's keys, in both.

    Attributes:
        num_features: channels that leave :meth:`forward_features`.
        head_hidden_size: inputs of the classifier.
        drop_rate: dropout before the classifier, in training.
    """

    def __init__(
        self,
        arch: Arch,
        blocks: nn.Sequential,
        *,
        fusion: MultiScaleFusion | None,
        num_classes: int,
        in_chans: int,
        drop_rate: float,
        global_pool: str,
        backend: str | None,
    ) -> None:
        super().__init__(arch, blocks, in_chans=in_chans, backend=backend)
        self.drop_rate = drop_rate
        self.num_features = arch.num_features
        self.head_hidden_size = arch.classifier_channels
        if fusion is not None:
            self.msfa = fusion
        if head := arch.head_conv():
            self.conv_head = conv2d(head.in_channels, head.out_channels, head.kernel_size, bias=head.bias)
            if head.bn:
                norm = nn.BatchNorm2d(head.out_channels, eps=arch.bn_eps, momentum=arch.bn_momentum)
                self.add_module(head.bn, norm)
        self._set_classifier(num_classes, global_pool)

    @property
    def default_cfg(self) -> dict[str, Any]:
        return {**super().default_cfg, "num_classes": self.num_classes, "classifier": "classifier"}

    def forward(self, x: Tensor) -> Tensor:
        """Logits (N, num_classes) of images (N, in_chans, H, W)."""
        self._check_input(x)
        with self._chosen_backend():
            return self.forward_head(self.forward_features(x))

    def forward_features(self, x: Tensor) -> Tensor:
        """The feature map (N, num_features, H/32, W/32) before pooling; its size is fixed where maps are fused."""
        fusion = self.arch.fusion
        if fusion is not None:
            x = self.msfa(self._maps(x, fusion.stages))
        elif self.grad_checkpointing and self.training:
            *_, x = self._stage_outputs(x)
        else:
            x = self.blocks(self._stem(x))
        return self._head_before_pooling(x)

    def forward_intermediates(
        self,
        x: Tensor,
        indices: int | Sequence[int] | None = None,
        *,
        stop_early: bool = False,
        intermediates_only: bool = False,
        extra_blocks: bool = False,
    ) -> list[Tensor] | tuple[Tensor, list[Tensor]]:
        """Feature maps on the way, and what :meth:`forward_features` gives.

        Args:
            indices: of the entries of :attr:`feature_info`, negative from the end; a number for the last so many; None
                for all.
            stop_early: leave out the stages behind the last map; needs intermediates_only.
            intermediates_only: return the maps alone.
            extra_blocks: indices of the stem (0) and of every stage instead.

        Returns:
            The maps from the largest to the smallest; with the features in front unless intermediates_only.
        """
        if stop_early and not intermediates_only:
            raise ArgumentError(
                "stop_early needs intermediates_only=True: without the last stages there are no features"
            )
        self._check_input(x)
        ends = range(len(self.blocks) + 1) if extra_blocks else [feature.stage for feature in features(self.arch)]
        stages = {ends[index] for index in take_indices(indices, len(ends), name="indices")}
        with self._chosen_backend():
            if stop_early:
                return self._maps(x, stages)
            outputs = list(self._stage_outputs(x))
            maps = [y for stage, y in enumerate(outputs) if stage in stages]
            if intermediates_only:
                return maps
            fusion = self.arch.fusion
            x = outputs[-1] if fusion is None else self.msfa([outputs[stage] for stage in fusion.stages])
            return self._head_before_pooling(x), maps

    def _head_before_pooling(self, x: Tensor) -> Tensor:
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
        weight = next(self.blocks.parameters())
        self._set_classifier(num_classes, global_pool)
        self.classifier.to(device=weight.device, dtype=weight.dtype).train(self.training)
        self.global_pool.train(self.training)

    def _set_classifier(self, num_classes: int, global_pool: str) -> None:
        if num_classes < 0:
            raise ArgumentError(f"num_classes must be 0 (no classifier) or more; got {num_classes}")
        pool = GlobalPool(global_pool)
        if num_classes and not global_pool:
            raise ArgumentError(
                f"global_pool='' leaves a feature map, no vector for a classifier of {num_classes} classes; "
                "use num_classes=0 with it, or global_pool='avg'"
            )
        self.num_classes = num_classes
        self.global_pool = pool
        self.classifier = nn.Linear(self.head_hidden_size, num_classes) if num_classes else nn.Identity()
        if num_classes:
            # tensorflow/tpu: uniform within 1 / sqrt(fan out), no bias.
            nn.init.uniform_(self.classifier.weight, -(num_classes**-0.5), num_classes**-0.5)
            nn.init.zeros_(self.classifier.bias)
