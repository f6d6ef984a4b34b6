"""Class names are the field's, in its order."""

from __future__ import annotations

from pathlib import Path

import pytest

from effops.data import imagenet_class_names, read_class_names
from effops.errors import ArgumentError
from tests import peers


def test_imagenet_names_are_torchvisions() -> None:
    peers.torchvision()
    from torchvision.models._meta import _IMAGENET_CATEGORIES

    assert imagenet_class_names() == tuple(_IMAGENET_CATEGORIES)


def test_reads_one_name_a_line(tmp_path: Path) -> None:
    path = tmp_path / "names.txt"
    path.write_text("röd\n grön \nblå\n", encoding="utf-8")
    assert read_class_names(path, 3) == ("röd", "grön", "blå")


@pytest.mark.parametrize("content", [b"one\ntwo\n", b"\xff\xfe\x00"], ids=["too few", "no text"])
def test_refuses_other_files(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "names.txt"
    path.write_bytes(content)
    with pytest.raises(ArgumentError, match=r"names\.txt"):
        read_class_names(path, 3)
