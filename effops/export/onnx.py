"""A model as an ONNX file."""

from __future__ import annotations

import importlib.util
import logging
import os
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from effops.errors import ExportError

from .files import checked, written
from .program import plain_program
from .verify import Exported, examples_of, verified

_NEEDED = ("onnx", "onnxscript", "onnxruntime")
# A protobuf file ends at 2 GiB: the weights of larger models go into a file beside it.
_LARGEST_FILE = 1_800_000_000


def to_onnx(
    model: nn.Module,
    example: Tensor,
    path: str | os.PathLike[str],
    *,
    dynamic: Sequence[str] = ("batch",),
    opset: int | None = None,
) -> Exported:
    """Save a model as an ONNX file of standard operators, its input ``images`` and its output ``logits``.

    The file is run in ONNX Runtime and compared with the model before it gets its name, at other sizes than the
    example's too where they may change. Needs the packages of ``pip install effops[export]``.

    Args:
        model: in eval mode, float32: one of ``effops.create_model``, one that ``effops.fuse`` converted, or any other.
        example: images (N, C, H, W) as the model takes them.
        path: the ``.onnx`` file to write; one that is there is replaced when the new one is complete and right.
        dynamic: what may differ from the example in later calls: "batch", "size", both or neither.
        opset: version of the operators; None for torch's choice.

    Raises:
        ArgumentError: the model is in training mode, or an argument is out of range.
        ExportError: a package is missing, or the file does not answer as the model does.
    """
    missing = [name for name in _NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        raise ExportError(f"ONNX files need {', '.join(missing)}; install them: pip install 'effops[export]'")
    target = checked(path, ".onnx")
    program = plain_program(model, example, dynamic)
    weights = sum(tensor.numel() * tensor.element_size() for tensor in program.state_dict.values())
    with written(target) as temporary:
        with _quiet():
            torch.onnx.export(
                program,
                (),
                temporary,
                input_names=["images"],
                output_names=["logits"],
                opset_version=opset,
                external_data=weights > _LARGEST_FILE,
                verbose=False,
                dynamo=True,
            )
        errors = verified(model, _session(temporary), examples_of(example, dynamic), f"the ONNX file {str(path)!r}")
    return Exported(os.fspath(path), "ONNX", tuple(dynamic), errors)


def _session(path: str) -> Callable[[Tensor], Tensor]:
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])

    def run(x: Tensor) -> Tensor:
        (logits,) = session.run(None, {"images": x.detach().cpu().contiguous().numpy()})
        return torch.from_numpy(logits)

    return run


@contextmanager
def _quiet() -> Iterator[None]:
    """The exporter logs its progress and warns of its own deprecations; its errors are exceptions."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript", "onnx_ir")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
