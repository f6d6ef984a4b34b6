"""Names of the classes that a classifier's outputs stand for."""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from os import PathLike
from pathlib import Path

from effops.errors import ArgumentError


@cache
def imagenet_class_names() -> tuple[str, ...]:
    """The 1000 ImageNet-1k class names, in the order of the outputs of timm's and torchvision's models."""
    return _lines(files("effops.data").joinpath("imagenet_classes.txt").read_text(encoding="utf-8"))


def read_class_names(path: str | PathLike[str], num_classes: int) -> tuple[str, ...]:
    """Reads class names from a text file, one a line, line ``i`` naming output ``i``.

    Raises:
        ArgumentError: the file cannot be read as text, or does not have ``num_classes`` lines.
    """
    try:
        names = _lines(Path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise ArgumentError(f"class names: cannot read {path} as a text file: {error}") from error
    if len(names) != num_classes:
        raise ArgumentError(
            f"class names: {path} has {len(names)} lines, expected one for each of the model's {num_classes} classes"
        )
    return names


def _lines(text: str) -> tuple[str, ...]:
    return tuple(line.strip() for line in text.strip().splitlines())
