"""Decoding of image files."""

from __future__ import annotations

from os import PathLike
from pathlib import Path

from PIL import Image, UnidentifiedImageError

from effops.errors import ArgumentError

# What Pillow's decoders raise on damaged files: most OSError, PNG SyntaxError, others ValueError or EOFError.
_DECODE_ERRORS = (OSError, SyntaxError, ValueError, EOFError)

# More than 8 bits a channel. Pillow's conversion to RGB clips instead of scaling: a white image, silently.
_DEEP_MODES = ("F", "I")


class ImageError(ArgumentError):
    """A file cannot be read as an image."""


def load_image(path: str | PathLike[str]) -> Image.Image:
    """Decodes a whole image file to 8-bit RGB.

    Orientation tags are not applied, as in the pipelines that the published accuracies come from.

    Raises:
        ImageError: the file is missing, no image, damaged or truncated, or has more than 8 bits a channel.
    """
    path = Path(path)
    if not path.exists():
        raise ImageError(f"{path}: no such file")
    if path.is_dir():
        raise ImageError(f"{path}: is a folder, expected an image file")
    try:
        with Image.open(path) as image:
            image.load()
            if image.mode.startswith(_DEEP_MODES):
                raise ImageError(
                    f"{path}: has more than 8 bits a channel (mode {image.mode}), expected 8-bit colour or "
                    "grey; convert it first"
                )
            return image.convert("RGB")
    except ImageError:
        raise
    except UnidentifiedImageError as error:
        raise ImageError(f"{path}: is no image, or of a format that Pillow cannot read") from error
    except Image.DecompressionBombError as error:
        raise ImageError(f"{path}: {error}") from error
    except _DECODE_ERRORS as error:
        raise ImageError(f"{path}: is damaged or truncated: {error}") from error
