"""The fusion of several maps into the one that is classified, as data."""

from __future__ import annotations

from dataclasses import dataclass

from .blocks import UniversalInvertedResidual


@dataclass(frozen=True, kw_only=True)
class Fusion:
    """The maps of several stages side by side, through a block and brought to one size, then a norm (``msfa``).

    Attributes:
        stages: their numbers from the largest map to the smallest, 0 for the stem; the others are enlarged to the
            first.
        block: what runs on all their channels, at the size of the first map.
        resolution: side of the map that comes out, whatever the side of the image.
    """

    stages: tuple[int, ...]
    block: UniversalInvertedResidual
    resolution: int
