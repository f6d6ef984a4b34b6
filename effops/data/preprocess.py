"""From an image to the tensor that a model was trained on."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from effops.errors import ArgumentError

INTERPOLATIONS = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}
CROP_MODES = ("center", "squash")


@dataclass(frozen=True)
class Preprocess:
    """The evaluation pipeline of timm and torchvision: resize the shorter side, crop the centre, normalise.

    The shorter side becomes ``floor(resolution / crop_pct)`` pixels (by Pillow's filters, which are
    antialiased), the centre ``resolution`` x ``resolution`` pixels are kept, and each channel becomes
    ``(x / 255 - mean) / std``. With crop_mode "squash" both sides become that long, whatever the image's proportions.
    """

    resolution: int
    crop_pct: float
    interpolation: str
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    crop_mode: str = "center"

    def __post_init__(self) -> None:
        if self.resolution < 1:
            raise ArgumentError(f"resolution: got {self.resolution}, expected at least 1 pixel")
        if not 0 < self.crop_pct <= 1:
            raise ArgumentError(f"crop_pct: got {self.crop_pct}, expected a share in (0, 1]")
        if self.interpolation not in INTERPOLATIONS:
            raise ArgumentError(f"interpolation: got {self.interpolation!r}, expected {' or '.join(INTERPOLATIONS)}")
        if self.crop_mode not in CROP_MODES:
            raise ArgumentError(f"crop_mode: got {self.crop_mode!r}, expected {' or '.join(CROP_MODES)}")

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Preprocess:
        """The pipeline of a model's ``default_cfg``: its input_size, crop_pct, crop_mode, interpolation, mean, std."""
        channels, height, width = config["input_size"]
        if channels != 3 or height != width:
            raise ArgumentError(f"input_size: got {tuple(config['input_size'])}, expected a square of three channels")
        return cls(
            resolution=height,
            crop_pct=config["crop_pct"],
            interpolation=config["interpolation"],
            mean=tuple(config["mean"]),
            std=tuple(config["std"]),
            crop_mode=config.get("crop_mode", "center"),
        )

    @property
    def resize_to(self) -> int:
        """Length in pixels that the shorter side is resized to."""
        return math.floor(self.resolution / self.crop_pct)

    def __call__(self, image: Image.Image) -> Tensor:
        """Turns an RGB image into a float32 tensor of shape (3, resolution, resolution).

        Raises:
            ArgumentError: the image is so long and narrow that its resized form would be unreasonably large.
        """
        pixels = self._crop(self._resize(image))
        # A bytearray, because torch warns about memory that it may not write to.
        flat = torch.frombuffer(bytearray(pixels.tobytes()), dtype=torch.uint8)
        chw = flat.view(self.resolution, self.resolution, 3).permute(2, 0, 1).contiguous()
        mean = torch.tensor(self.mean).view(3, 1, 1)
        std = torch.tensor(self.std).view(3, 1, 1)
        return (chw.float() / 255 - mean) / std

    def _resize(self, image: Image.Image) -> Image.Image:
        shorter, longer = sorted(image.size)
        resized_longer = self.resize_to if self.crop_mode == "squash" else int(self.resize_to * longer / shorter)
        limit = Image.MAX_IMAGE_PIXELS
        if limit is not None and self.resize_to * resized_longer > limit:
            raise ArgumentError(
                f"image: {image.width} x {image.height} pixels is too narrow: with a shorter side of "
                f"{self.resize_to} it would have {resized_longer} on the longer one; crop it first"
            )
        portrait = image.width <= image.height
        size = (self.resize_to, resized_longer) if portrait else (resized_longer, self.resize_to)
        return image if image.size == size else image.resize(size, INTERPOLATIONS[self.interpolation])

    def _crop(self, image: Image.Image) -> Image.Image:
        left = round((image.width - self.resolution) / 2)
        top = round((image.height - self.resolution) / 2)
        return image.crop((left, top, left + self.resolution, top + self.resolution))
