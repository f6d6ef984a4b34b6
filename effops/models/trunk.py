"""Stem and stages: what the classifier and the feature network have in common."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from effops.arch import Arch, features
from effops.errors import ArgumentError
from effops.nn.conv import conv2d
from effops.nn.conv_bn import ConvBN, nested_unit
from effops.nn.units import Unit, UnitModule
from effops.ops.backends import backend as use_backend


def feature_dicts(arch: Arch) -> list[dict[str, Any]]:
    """The last map of every size, under timm's names."""
    return [
        {
            "module": feature.module,
            "num_chs": feature.channels,
            "reduction": feature.reduction,
            "stage": feature.stage,
            "index": index,
        }
        for index, feature in enumerate(features(arch))
    ]


class Trunk(UnitModule):
    """The modules ``conv_stem``, ``bn1`` (where the stem is not nested) and ``blocks``, and what users ask of them.

    Attributes:
        arch: the row it was built from.
        backend: name of the backend that the forward runs on, None for the best one.
    """

    def __init__(self, arch: Arch, blocks: nn.Sequential, *, in_chans: int, backend: str | None) -> None:
        super().__init__()
        self.arch = arch
        self.in_chans = in_chans
        self.backend = backend
        self.grad_checkpointing = False
        stem = arch.stem_conv(in_chans)
        conv = conv2d(
            stem.in_channels,
            stem.out_channels,
            stem.kernel_size,
            stride=stem.stride,
            padding="same" if arch.padding == "same" else None,
            bias=stem.bias,
        )
        if arch.stem.nested:
            self.conv_stem = ConvBN(conv, arch.bn_eps, arch.bn_momentum)
        else:
            self.conv_stem = conv
            self.bn1 = nn.BatchNorm2d(stem.out_channels, eps=arch.bn_eps, momentum=arch.bn_momentum)
        self.blocks = blocks

    @property
    def default_cfg(self) -> dict[str, Any]:
        """Preprocessing and the names of the first and last layer, as timm's models have it."""
        preprocessing = self.arch.preprocessing
        return {
            "architecture": self.arch.name,
            "tag": self.arch.tag,
            "input_size": (self.in_chans, preprocessing.resolution, preprocessing.resolution),
            "crop_pct": preprocessing.crop_pct,
            "crop_mode": preprocessing.crop_mode,
            "interpolation": preprocessing.interpolation,
            "mean": preprocessing.mean,
            "std": preprocessing.std,
            "first_conv": self.arch.stem_conv().name,
        }

    @property
    def feature_info(self) -> list[dict[str, Any]]:
        """The last map of every size under timm's names: module, num_chs, reduction, stage, index."""
        return feature_dicts(self.arch)

    def group_matcher(self, coarse: bool = False) -> dict[str, Any]:
        """Regular expressions that sort parameters by depth: block by block, or coarse by stage. As timm's."""
        blocks = r"^blocks\.(\d+)" if coarse else r"^blocks\.(\d+)\.(\d+)"
        return {"stem": r"^conv_stem|^bn1", "blocks": [(blocks, None), (r"^conv_head|^bn2|^norm_head", (99999,))]}

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """In training, keep only the stages' inputs and recompute the rest in the backward pass.

        Running statistics move once all the same: a recomputation leaves them alone.
        """
        self.grad_checkpointing = enable

    def _stage_outputs(self, x: Tensor, last: int | None = None) -> Iterator[Tensor]:
        """The map after the stem, then after every stage, up to stage number ``last`` (0 for the stem)."""
        x = self._stem(x)
        yield x
        for stage in self.blocks[:last]:
            again = self.grad_checkpointing and self.training
            x = checkpoint(stage, x, use_reentrant=False) if again else stage(x)
            yield x

    def _stem(self, x: Tensor) -> Tensor:
        stem = self.arch.stem
        if stem.nested:
            return self._run(lambda: [nested_unit("conv_stem", self.conv_stem, stem.act)], x, key="conv_stem")
        return self._conv_bn_act("conv_stem", "bn1", x, stem.act)

    def _maps(self, x: Tensor, stages: Collection[int]) -> list[Tensor]:
        """The maps after these stages, from the first to the last; those behind do not run."""
        outputs = enumerate(self._stage_outputs(x, max(stages)))
        return [y for stage, y in outputs if stage in stages]

    def _conv_bn_act(self, conv_name: str, bn_name: str | None, x: Tensor, act: str) -> Tensor:
        modules = self._modules
        return self._run(
            lambda: [Unit(conv_name, modules[conv_name], bn_name and modules[bn_name], act)], x, key=conv_name
        )

    def _chosen_backend(self) -> AbstractContextManager:
        return nullcontext() if self.backend is None else use_backend(self.backend)

    def _check_input(self, x: Tensor) -> None:
        if x.dim() != 4 or x.shape[1] != self.in_chans:
            raise ArgumentError(
                f"x must be (N, {self.in_chans}, H, W) for {self.arch.name}; got shape {tuple(x.shape)}"
            )
