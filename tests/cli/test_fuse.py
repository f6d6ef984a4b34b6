"""``effops fuse``."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from effops.cli import comparison

from .conftest import Run

MODEL = """
from torch import nn

def build():
    layers = [nn.Conv2d(3, 8, 3, 2, 1, bias=False), nn.BatchNorm2d(8), nn.ReLU6(), nn.MaxPool2d(2), nn.Conv2d(8, 4, 1)]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten())

def nothing():
    return None
"""


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name, value in (("WARMUP_ROUNDS", 0), ("MIN_ROUNDS", 2), ("MAX_ROUNDS", 2)):
        monkeypatch.setattr(comparison, name, value)
    path = tmp_path / "models.py"
    path.write_text(MODEL)
    return path


def test_the_report_and_the_gain(run: Run, file: Path) -> None:
    finished = run("fuse", "--module", f"{file}:build", "--image-size", 16)
    assert finished.code == 0
    assert (
        "0 to 2" in finished.out
        and "conv-bn-act" in finished.out
        and "conv_act; trains as conv_bn_chain" in finished.out
    )
    assert "left: a convolution alone" in finished.out
    assert "medians of 2 alternating rounds" in finished.out


def test_json_with_training(run: Run, file: Path) -> None:
    options = ("--image-size", 16, "--batch", 2, "--training", "--json")
    shown = json.loads(run("fuse", "--module", f"{file}:build", *options).out)
    assert [row["state"] for row in shown["rows"]] == ["fused", "left"]
    assert shown["shares"]["basis"] == "macs" and 0.5 < shown["shares"]["macs"] < 1
    for name in ("inference", "training"):
        assert shown[name]["speedup"] == shown[name]["eager_ms"] / shown[name]["fused_ms"]
        assert shown[name]["logit_difference"] < 1e-5


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ((), "give one of --timm, --torchvision and --module; got 0"),
        (("--module", "nowhere.py:build"), "there is no file 'nowhere.py'"),
        (("--module", "{file}:other"), "has no function 'other'"),
        (("--module", "{file}:nothing"), "must return a torch.nn.Module; got NoneType"),
        (("--module", "{file}:build", "--training"), "--training: needs --batch of at least 2"),
        (("--module", "{file}:build", "--image-size", "0"), "--image-size: got 0, expected at least 1"),
    ],
)
def test_wrong_options_are_told(run: Run, file: Path, options: tuple[str, ...], message: str) -> None:
    finished = run("fuse", *(option.replace("{file}", str(file)) for option in options))
    assert finished.code == 2 and message in finished.err
