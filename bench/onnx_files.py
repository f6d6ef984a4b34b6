"""A network as an ONNX file, for the engines that read those."""

from __future__ import annotations

import contextlib
import io
import logging
import tempfile
import warnings
import weakref
from pathlib import Path

import torch
from torch import Tensor, nn

# Several engines read the file of one network; it goes when the network does.
_files: weakref.WeakKeyDictionary[nn.Module, dict[tuple[int, ...], Path]] = weakref.WeakKeyDictionary()
_folder = tempfile.TemporaryDirectory(prefix="effops-bench-")


def onnx_file(module: nn.Module, images: Tensor) -> Path:
    """The network as an ONNX file for images of exactly this shape, made once while the network lives."""
    made = _files.setdefault(module, {})
    shape = tuple(images.shape)
    if shape not in made:
        path = Path(_folder.name) / f"{id(module)}-{'x'.join(map(str, shape))}.onnx"
        export(module, images, path)
        made[shape] = path
    return made[shape]


def export(module: nn.Module, images: Tensor, path: Path) -> None:
    """Write the network with torch's own exporter, for images of exactly this shape; its input is ``images``."""
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        torch.onnx.export(
            module,
            (images,),
            path,
            dynamo=True,
            input_names=["images"],
            output_names=["logits"],
            external_data=False,
            verbose=False,
        )
