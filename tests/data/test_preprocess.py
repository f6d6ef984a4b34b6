"""Pixels are torchvision's to the bit, for images of any shape."""

from __future__ import annotations

import pytest
import torch
from PIL import Image

from effops.data import Preprocess
from effops.errors import ArgumentError
from effops.models import create_model
from tests import peers

IMAGENET = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}


def _noise(width: int, height: int) -> Image.Image:
    generator = torch.Generator().manual_seed(width * 10000 + height)
    pixels = torch.randint(0, 256, (height, width, 3), dtype=torch.uint8, generator=generator)
    return Image.frombytes("RGB", (width, height), bytes(pixels.flatten().tolist()))


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize(
    ("resolution", "crop_pct"), [(224, 0.875), (160, 1.0), (225, 0.9)], ids=["224", "whole", "odd"]
)
@pytest.mark.parametrize("size", [(300, 200), (200, 301), (256, 256), (64, 64), (1, 1), (3, 97), (257, 511)], ids=str)
def test_equals_torchvision(size: tuple[int, int], resolution: int, crop_pct: float, interpolation: str) -> None:
    peers.torchvision()
    from torchvision import transforms

    image = _noise(*size)
    ours = Preprocess(resolution=resolution, crop_pct=crop_pct, interpolation=interpolation, **IMAGENET)
    theirs = transforms.Compose(
        [
            transforms.Resize(int(resolution / crop_pct), transforms.InterpolationMode(interpolation)),
            transforms.CenterCrop(resolution),
            transforms.ToTensor(),
            transforms.Normalize(IMAGENET["mean"], IMAGENET["std"]),
        ]
    )
    torch.testing.assert_close(ours(image), theirs(image), rtol=0, atol=0)


def test_reads_a_models_config() -> None:
    model = create_model("mobilenetv2_035")
    preprocess = Preprocess.from_config(model.default_cfg)
    assert preprocess == Preprocess(resolution=224, crop_pct=0.875, interpolation="bicubic", **IMAGENET)
    assert preprocess.resize_to == 256


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"resolution": 0}, "resolution"),
        ({"crop_pct": 0.0}, "crop_pct"),
        ({"crop_pct": 1.5}, "crop_pct"),
        ({"interpolation": "nearest"}, "interpolation"),
    ],
)
def test_refuses_values_out_of_range(change: dict[str, object], named: str) -> None:
    good = {"resolution": 224, "crop_pct": 0.875, "interpolation": "bicubic", **IMAGENET}
    with pytest.raises(ArgumentError, match=named):
        Preprocess(**{**good, **change})


def test_refuses_inputs_that_are_no_colour_squares() -> None:
    config = create_model("mobilenetv2_035", in_chans=1).default_cfg
    with pytest.raises(ArgumentError, match="input_size"):
        Preprocess.from_config(config)


def test_refuses_images_that_would_grow_without_limit() -> None:
    preprocess = Preprocess(resolution=224, crop_pct=0.875, interpolation="bicubic", **IMAGENET)
    with pytest.raises(ArgumentError, match="too narrow"):
        preprocess(Image.new("RGB", (1, 60000)))


@pytest.mark.parametrize("size", [(300, 200), (3, 2000), (64, 64)], ids=str)
def test_squash_resizes_both_sides(size: tuple[int, int]) -> None:
    peers.torchvision()
    from torchvision import transforms

    config = create_model("tf_efficientnetv2_b3.in21k_ft_in1k").default_cfg
    assert (config["crop_mode"], config["crop_pct"]) == ("squash", 0.9)
    ours = Preprocess.from_config({**config, "input_size": (3, 90, 90)})
    theirs = transforms.Compose(
        [
            transforms.Resize((100, 100), transforms.InterpolationMode("bicubic")),
            transforms.CenterCrop(90),
            transforms.ToTensor(),
            transforms.Normalize(config["mean"], config["std"]),
        ]
    )
    image = _noise(*size)
    assert torch.equal(ours(image), theirs(image))


def test_an_unknown_crop_mode_is_refused() -> None:
    with pytest.raises(ArgumentError, match="crop_mode: got 'border', expected center or squash"):
        Preprocess(resolution=64, crop_pct=1.0, interpolation="bicubic", crop_mode="border", **IMAGENET)
