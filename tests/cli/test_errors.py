"""What users get wrong: one readable message that names the thing, exit code 2, no traceback."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image

from effops.cli import app as cli_app

from .conftest import Run

GOOD_IMAGE = "good.png"


@pytest.fixture
def folder(tmp_path: Path, small_checkpoint: Path) -> Path:
    """A folder with one good image, one good checkpoint and everything that is wrong."""
    Image.effect_mandelbrot((320, 240), (-2, -1.5, 1, 1.5), 40).convert("RGB").save(tmp_path / GOOD_IMAGE)
    Image.open(tmp_path / GOOD_IMAGE).save(tmp_path / "good.jpg")
    whole = (tmp_path / "good.jpg").read_bytes()
    (tmp_path / "truncated.jpg").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "text.jpg").write_text("no image at all\n")
    (tmp_path / "empty.png").write_bytes(b"")
    (tmp_path / "folder").mkdir()
    Image.new("I;16", (64, 64), 60000).save(tmp_path / "deep.png")
    Image.new("RGB", (40000, 2)).save(tmp_path / "thread.png")
    (tmp_path / "model.pth").write_bytes(small_checkpoint.read_bytes())
    (tmp_path / "truncated.pth").write_bytes(small_checkpoint.read_bytes()[:20000])
    torch.save({"weight": torch.zeros(3)}, tmp_path / "foreign.pth")
    (tmp_path / "names.txt").write_text("one\ntwo\n")
    return tmp_path


GOOD = {
    "images": (GOOD_IMAGE,),
    "--model": "mobilenetv2_035",
    "--checkpoint": "model.pth",
    "--num-classes": "10",
}


def _arguments(changes: dict[str, object]) -> list[str]:
    options = {**GOOD, **changes}
    images = options.pop("images")
    return ["classify", *images, *(part for pair in options.items() for part in pair)]


def test_good_arguments_pass(run: Run, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The errors below are due to the change that each case makes."""
    monkeypatch.chdir(folder)
    assert run(*_arguments({})).code == 0


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"images": ("missing.jpg",)}, ["missing.jpg", "no such file"]),
        ({"images": (GOOD_IMAGE, "text.jpg")}, ["text.jpg", "no image"]),
        ({"images": ("empty.png",)}, ["empty.png", "no image"]),
        ({"images": ("truncated.jpg",)}, ["truncated.jpg", "truncated"]),
        ({"images": ("folder",)}, ["folder", "expected an image file"]),
        ({"images": ("deep.png",)}, ["deep.png", "8 bits"]),
        ({"images": ("thread.png",)}, ["40000 x 2", "crop"]),
        ({"--model": "mobilenetv2_036"}, ["mobilenetv2_036", "mobilenetv2_035"]),
        ({"--checkpoint": "missing.pth"}, ["missing.pth", "does not exist"]),
        ({"--checkpoint": "truncated.pth"}, ["truncated.pth"]),
        ({"--checkpoint": "foreign.pth"}, ["foreign.pth", "spelling"]),
        ({"--checkpoint": GOOD_IMAGE}, [GOOD_IMAGE]),
        ({"--model": "mobilenetv2_050"}, ["mobilenetv2_050", "mobilenetv2_035"]),
        ({"--num-classes": "1000"}, ["10 classes", "1000"]),
        ({"--num-classes": "0"}, ["--topk"]),
        ({"--topk": "0"}, ["--topk", "got 0"]),
        ({"--topk": "11"}, ["--topk", "got 11"]),
        ({"--topk": "many"}, ["--topk"]),
        ({"--threads": "0"}, ["--threads", "got 0"]),
        ({"--backend": "abacus"}, ["abacus", "reference"]),
        ({"--interpolation": "nearest"}, ["nearest", "bilinear"]),
        ({"--class-names": "names.txt"}, ["names.txt", "2 lines", "10"]),
        ({"--class-names": "missing.txt"}, ["missing.txt"]),
        ({"--class-names": "good.jpg"}, ["good.jpg"]),
    ],
    ids=lambda value: "-".join(str(part) for part in value) if isinstance(value, list) else "",
)
def test_bad_classify_argument(
    run: Run, folder: Path, monkeypatch: pytest.MonkeyPatch, changes: dict[str, object], named: list[str]
) -> None:
    monkeypatch.chdir(folder)
    finished = run(*_arguments(changes))
    assert finished.code == 2
    assert finished.out == ""
    assert "Traceback" not in finished.err
    for part in named:
        assert part in finished.err


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["classify"], "images"),
        (["classify", "a.jpg", "--model", "mobilenetv2_100"], "--checkpoint"),
        (["info"], "name"),
        (["info", "mobilenetv3_large"], "mobilenet_v3_large"),
        (["info", "efficientnet_b0", "--resolution", "0"], "resolution"),
        (["info", "efficientnet_b0", "--num-classes", "-1"], "num_classes"),
        (["list", "resnet*"], "resnet*"),
        (["lists"], "lists"),
        (["doctor", "--jsno"], "--jsno"),
    ],
)
def test_bad_argument(run: Run, arguments: list[str], named: str) -> None:
    finished = run(*arguments)
    assert finished.code == 2
    assert finished.out == ""
    assert "Traceback" not in finished.err
    assert named in finished.err


def test_missing_extension_refuses_its_backend(
    run: Run, folder: Path, monkeypatch: pytest.MonkeyPatch, without_extension: str
) -> None:
    monkeypatch.chdir(folder)
    finished = run(*_arguments({"--backend": "cpu"}))
    assert finished.code == 2
    assert without_extension in finished.err


def test_unexpected_errors_keep_their_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*, args: object, prog_name: str) -> None:
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr(cli_app, "app", broken)
    with pytest.raises(ZeroDivisionError, match="a bug"):
        cli_app.main([])


def test_the_process_exits_with_2_and_no_traceback() -> None:
    command = [sys.executable, "-m", "effops", "info", "efficientnet_b99"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stdout == ""
    assert "efficientnet_b99" in done.stderr
    assert "Traceback" not in done.stderr
