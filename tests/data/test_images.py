"""Files become 8-bit RGB, or an error that names the file."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from effops.data import ImageError, load_image


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "LA", "P", "1", "CMYK"])
def test_every_8_bit_mode_becomes_rgb(tmp_path: Path, mode: str) -> None:
    path = tmp_path / ("image.tiff" if mode == "CMYK" else "image.png")
    Image.new("RGB", (8, 6), (255, 255, 255)).convert(mode).save(path)
    image = load_image(path)
    assert (image.mode, image.size) == ("RGB", (8, 6))
    assert image.getpixel((3, 3)) == (255, 255, 255)


@pytest.mark.parametrize("mode", ["I;16", "I", "F"])
def test_deep_images_are_refused(tmp_path: Path, mode: str) -> None:
    path = tmp_path / "deep.tiff"
    Image.new(mode, (8, 8)).save(path)
    with pytest.raises(ImageError, match=r"deep\.tiff.*8 bits"):
        load_image(path)


@pytest.mark.parametrize("suffix", ["png", "jpg", "gif", "webp"])
@pytest.mark.parametrize("share", [0.2, 0.5, 0.9])
def test_truncated_files_are_refused(tmp_path: Path, suffix: str, share: float) -> None:
    path = tmp_path / f"cut.{suffix}"
    Image.effect_mandelbrot((200, 150), (-2, -1.5, 1, 1.5), 40).convert("RGB").save(path)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises(ImageError, match=f"cut.{suffix}"):
        load_image(path)


def test_decompression_bombs_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "bomb.png"
    Image.new("L", (100, 100)).save(path)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with pytest.raises(ImageError, match=r"bomb\.png"):
        load_image(path)
