"""Where a network's feature maps of one size end: what detection and segmentation take from a backbone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from effops.errors import ArgumentError

from .arch import Arch


@dataclass(frozen=True)
class Feature:
    """The last map of one size.

    Attributes:
        stage: 0 for the stem, i + 1 for ``blocks.i``.
        module: module path.
        channels: of the map.
        reduction: sides of the image over sides of the map.
    """

    stage: int
    module: str
    channels: int
    reduction: int


def features(arch: Arch) -> tuple[Feature, ...]:
    """The last map of every size, from the largest to the smallest; the stem's where the first stage strides."""
    found, reduction = [], arch.stem.stride
    if arch.stages[0][0].stride > 1:
        found.append(Feature(0, arch.stem_conv().bn, arch.stem.channels, reduction))
    for index, stage in enumerate(arch.stages):
        reduction *= stage[0].stride
        last = index + 1 == len(arch.stages)
        if last or arch.stages[index + 1][0].stride > 1:
            found.append(Feature(index + 1, f"blocks.{index}", stage[-1].out_channels, reduction))
    return tuple(found)


def take_indices(indices: int | Sequence[int] | None, count: int, *, name: str) -> list[int]:
    """Indices into ``count`` things, negative ones from the end: a number for the last so many, None for all.

    Raises:
        ArgumentError: one is out of range; the message calls the argument ``name``.
    """
    if indices is None:
        indices = count
    if isinstance(indices, int):
        if not 0 < indices <= count:
            raise ArgumentError(
                f"{name} as a number takes the last so many of {count} maps: 1 to {count}; got {indices}"
            )
        return list(range(count - indices, count))
    if not indices:
        raise ArgumentError(f"{name} must name at least one of {count} maps; got {indices!r}")
    for index in indices:
        if not -count <= index < count:
            raise ArgumentError(f"{name} must be from {-count} to {count - 1}, as there are {count} maps; got {index}")
    return [index % count for index in indices]
