"""The weights that timm distributes: how each set wants its images, and how many classes it knows.

``weight_sets.csv`` has a row for each: the model, the tag that timm gives the weights, the resolution of their
evaluation, the share that the centre crop keeps, and the pixels that they take: "imagenet" less the mean of ImageNet
over its deviation, "inception" in [-1, 1], "none" in [0, 1].
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from .arch import IMAGENET_MEAN, IMAGENET_STD, INCEPTION_MEAN, INCEPTION_STD, Preprocessing

_PIXELS = {
    "imagenet": (IMAGENET_MEAN, IMAGENET_STD),
    "inception": (INCEPTION_MEAN, INCEPTION_STD),
    "none": ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0)),
}


@dataclass(frozen=True)
class WeightSet:
    """One set of trained weights of a model."""

    model: str
    tag: str
    num_classes: int
    preprocessing: Preprocessing


@cache
def weight_sets() -> dict[str, WeightSet]:
    """All sets, by ``model.tag``."""
    with Path(__file__).with_name("weight_sets.csv").open(encoding="utf-8") as file:
        return {f"{row['model']}.{row['tag']}": _parsed(row) for row in csv.DictReader(file)}


def _parsed(row: dict[str, str]) -> WeightSet:
    mean, std = _PIXELS[row["pixels"]]
    preprocessing = Preprocessing(
        resolution=int(row["resolution"]),
        crop_pct=float(row["crop_pct"]),
        crop_mode=row["crop_mode"],
        interpolation=row["interpolation"],
        mean=mean,
        std=std,
    )
    return WeightSet(row["model"], row["tag"], int(row["num_classes"]), preprocessing)
