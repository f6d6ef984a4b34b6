"""A network as a backbone: the last feature map of every size, no head."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from effops.arch import Arch, take_indices

from .trunk import Trunk, feature_dicts


class FeatureInfo(Sequence):
    """What the maps of a feature network are; a list of dictionaries with timm's accessors.

    Attributes:
        out_indices: of the maps that the network returns.
    """

    def __init__(self, info: list[dict[str, Any]], out_indices: Sequence[int]) -> None:
        self._info = info
        self.out_indices = tuple(out_indices)

    def channels(self) -> list[int]:
        """Channels of the returned maps."""
        return self.get("num_chs")

    def reduction(self) -> list[int]:
        """Sides of the image over sides of the map, of the returned maps."""
        return self.get("reduction")

    def module_name(self) -> list[str]:
        """Module paths of the returned maps."""
        return self.get("module")

    def get(self, key: str) -> list[Any]:
        """One entry of every returned map."""
        return [self._info[index][key] for index in self.out_indices]

    def get_dicts(self) -> list[dict[str, Any]]:
        """All entries of every returned map."""
        return [self._info[index] for index in self.out_indices]

    def __getitem__(self, index: int) -> dict[str, Any]:
        return self._info[index]

    def __len__(self) -> int:
        return len(self._info)


class FeatureNetwork(Trunk):
    """A network without head that returns a list of feature maps; make one with ``create_model(features_only=True)``.

    Keys, module paths and the order of the maps are those of timm's feature networks: from the largest map to the
    smallest, whatever the order of the indices.

    Args:
        out_indices: of the maps, negative from the end; a number for the last so many; None for all.
    """

    num_classes = 0

    def __init__(
        self,
        arch: Arch,
        blocks: nn.Sequential,
        *,
        in_chans: int,
        out_indices: int | Sequence[int] | None = None,
        backend: str | None = None,
    ) -> None:
        super().__init__(arch, blocks, in_chans=in_chans, backend=backend)
        info = feature_dicts(arch)
        self.out_indices = tuple(sorted(set(take_indices(out_indices, len(info), name="out_indices"))))
        self._stages = tuple(info[index]["stage"] for index in self.out_indices)

    @property
    def feature_info(self) -> FeatureInfo:
        return FeatureInfo(feature_dicts(self.arch), self.out_indices)

    def forward(self, x: Tensor) -> list[Tensor]:
        """The maps of images (N, in_chans, H, W), from the largest to the smallest."""
        self._check_input(x)
        with self._chosen_backend():
            return self._maps(x, self._stages)
