"""``effops classify`` on real photographs with real checkpoints, against independent implementations."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from effops.cli import comparison
from effops.data import imagenet_class_names
from effops.models import create_model
from effops.ops import extension
from tests import peers

from .conftest import Run

# float32 on another summation order, at logits up to 25: probabilities agree far better than they are shown.
TOLERANCE = 1e-4


@pytest.fixture(autouse=True)
def few_rounds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(comparison, "BUDGET_SECONDS", 0.0)


def _torchvision_pixels(path: Path, interpolation: str, mean: float | list, std: float | list) -> torch.Tensor:
    from torchvision import transforms

    pipeline = transforms.Compose(
        [
            transforms.Resize(256, transforms.InterpolationMode(interpolation)),
            transforms.CenterCrop(224),
            transforms.ToTensor(),
            transforms.Normalize(mean, std),
        ]
    )
    return pipeline(Image.open(path).convert("RGB"))


def _check(report: dict[str, Any], photographs: list[Path], probabilities: torch.Tensor) -> None:
    assert [image["path"] for image in report["images"]] == [str(path) for path in photographs]
    for image, expected in zip(report["images"], probabilities, strict=True):
        best = expected.topk(5)
        shown = image["top"]
        assert [prediction["index"] for prediction in shown] == best.indices.tolist()
        for prediction, value in zip(shown, best.values.tolist(), strict=True):
            assert prediction["probability"] == pytest.approx(value, abs=TOLERANCE)
            assert prediction["name"] == imagenet_class_names()[prediction["index"]]


def test_mobilenet_v2_is_torchvisions(run: Run) -> None:
    torchvision = peers.torchvision()
    checkpoint, photographs = peers.mobilenet_v2_checkpoint(), peers.photographs()[:8]
    theirs = torchvision.models.mobilenet_v2().eval()
    theirs.load_state_dict(torch.load(checkpoint, weights_only=True))
    mean, std = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
    pixels = torch.stack([_torchvision_pixels(path, "bilinear", mean, std) for path in photographs])
    with torch.inference_mode():
        probabilities = theirs(pixels).softmax(-1)

    finished = run("classify", *photographs, "--model", "mobilenet_v2", "--checkpoint", checkpoint, "--json")
    assert finished.code == 0
    _check(json.loads(finished.out), photographs, probabilities)


def test_lite0_is_timms(run: Run) -> None:
    timm, _ = peers.timm(), peers.torchvision()
    checkpoint, photographs = peers.lite0_checkpoint(), peers.photographs()[8:16]
    theirs = timm.create_model("tf_efficientnet_lite0").eval()
    theirs.load_state_dict(create_model("tf_efficientnet_lite0", checkpoint=checkpoint).state_dict())
    pixels = torch.stack([_torchvision_pixels(path, "bicubic", 0.5, 0.5) for path in photographs])
    with torch.inference_mode():
        probabilities = theirs(pixels).softmax(-1)

    options = ("--model", "tf_efficientnet_lite0", "--checkpoint", checkpoint, "--json")
    finished = run("classify", *photographs, *options)
    assert finished.code == 0
    _check(json.loads(finished.out), photographs, probabilities)


def test_table_and_comparison(run: Run) -> None:
    checkpoint, photographs = peers.lite0_checkpoint(), peers.photographs()[:2]
    options = ("--model", "tf_efficientnet_lite0", "--checkpoint", checkpoint, "--topk", 3, "--threads", 1)
    finished = run("classify", *photographs, *options, "--compare")
    assert finished.code == 0
    for path in photographs:
        label = int(path.stem.rsplit("_", 1)[1])
        assert path.name in finished.out
        assert imagenet_class_names()[label] in finished.out
    assert "logits, against eager" in finished.out
    assert "1 threads" in finished.out


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    path = tmp_path / "picture.png"
    Image.effect_mandelbrot((300, 260), (-2, -1.5, 1, 1.5), 40).convert("RGB").save(path)
    return path


def _small(checkpoint: Path) -> tuple[object, ...]:
    return ("--model", "mobilenetv2_035", "--checkpoint", checkpoint, "--num-classes", 10, "--json")


def test_comparison_in_json(run: Run, picture: Path, small_checkpoint: Path) -> None:
    report = json.loads(run("classify", picture, picture, *_small(small_checkpoint), "--compare").out)
    comparison = report["comparison"]
    assert comparison["batch"] == len(report["images"]) == 2
    assert comparison["logit_scale"] > 0
    assert comparison["logit_difference"] <= 1e-4 * comparison["logit_scale"]
    assert comparison["speedup"] == comparison["eager_ms"] / comparison["fused_ms"]
    assert comparison["rounds"] >= 7


def test_reference_backend_gives_the_same_classes(run: Run, picture: Path, small_checkpoint: Path) -> None:
    fused = json.loads(run("classify", picture, *_small(small_checkpoint)).out)
    reference = json.loads(run("classify", picture, *_small(small_checkpoint), "--backend", "reference").out)
    assert fused["backend"] == ("cpu" if extension.module else "reference")
    assert reference["backend"] == "reference"
    assert reference["comparison"] is None
    for one, other in zip(fused["images"][0]["top"], reference["images"][0]["top"], strict=True):
        assert one["index"] == other["index"]
        assert one["probability"] == pytest.approx(other["probability"], abs=TOLERANCE)


def test_options_change_the_run(run: Run, picture: Path, small_checkpoint: Path, tmp_path: Path) -> None:
    names = tmp_path / "names.txt"
    names.write_text("".join(f"thing {index}\n" for index in range(10)))
    options = ("--class-names", names, "--interpolation", "bilinear", "--threads", 2, "--topk", 10)
    report = json.loads(run("classify", picture, *_small(small_checkpoint), *options).out)
    assert report["threads"] == torch.get_num_threads() == 2
    assert report["preprocess"]["interpolation"] == "bilinear"
    top = report["images"][0]["top"]
    assert sorted(prediction["name"] for prediction in top) == [f"thing {index}" for index in range(10)]
    assert sum(prediction["probability"] for prediction in top) == pytest.approx(1)


def test_classes_without_names_are_numbered(run: Run, picture: Path, small_checkpoint: Path) -> None:
    report = json.loads(run("classify", picture, *_small(small_checkpoint)).out)
    assert all(entry["name"] == f"class {entry['index']}" for entry in report["images"][0]["top"])
