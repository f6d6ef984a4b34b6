"""``effops export``: a model as a file that runs where effops is not installed."""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from pathlib import Path
from typing import Annotated

import torch
import typer
from rich.console import Console

from effops.cli.console import examples, output, print_json, properties
from effops.errors import ArgumentError
from effops.export import Exported, to_aoti, to_exported_program, to_onnx
from effops.models import create_model

EXAMPLES = examples(
    "effops export mobilenetv3_large_100 --checkpoint FILE.pth --output model.onnx",
    "effops export tf_efficientnet_lite0 --checkpoint FILE.pth --output model.onnx --dynamic batch --dynamic size",
    "effops export efficientnet_b0 --checkpoint FILE.pth --format aoti --output model.pt2",
)


class Format(str, Enum):
    """What to write."""

    onnx = "onnx"
    program = "program"
    aoti = "aoti"


class Dynamic(str, Enum):
    """What may differ from call to call."""

    batch = "batch"
    size = "size"


_WRITERS: dict[Format, Callable[..., Exported]] = {
    Format.onnx: to_onnx,
    Format.program: to_exported_program,
    Format.aoti: to_aoti,
}


def export(
    model: Annotated[str, typer.Argument(help="Model name, as in [cyan]effops list[/].", show_default=False)],
    path: Annotated[Path, typer.Option("--output", help="File to write: .onnx, or .pt2 for the others.")],
    checkpoint: Annotated[
        Path | None, typer.Option(help="Checkpoint file of that model. Default: random weights, to try it out.")
    ] = None,
    file_format: Annotated[
        Format, typer.Option("--format", help="ONNX, a torch.export program, or an AOTInductor package.")
    ] = Format.onnx,
    dynamic: Annotated[
        list[Dynamic] | None, typer.Option(help="What may differ from call to call; may be given twice.")
    ] = None,
    batch: Annotated[int, typer.Option(help="Images of a call.")] = 1,
    resolution: Annotated[int | None, typer.Option(help="Side of the images. Default: the model's.")] = None,
    num_classes: Annotated[int, typer.Option(help="Classes of the checkpoint.")] = 1000,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Write a model as plain operators, its batch norms folded, and check the file's answers against the model's."""
    for name, value in (("--batch", batch), ("--resolution", resolution)):
        if value is not None and value < 1:
            raise ArgumentError(f"{name}: got {value}, expected at least 1")
    network = create_model(model, num_classes=num_classes, checkpoint=checkpoint).eval()
    side = resolution or network.default_cfg["input_size"][-1]
    example = torch.randn(batch, network.in_chans, side, side, generator=torch.Generator().manual_seed(0))
    with Console(stderr=True).status(f"exporting {model}"):
        exported = _WRITERS[file_format](network, example, path, dynamic=[one.value for one in dynamic or ()])
    if as_json:
        print_json(_plain(exported))
    else:
        _show(model, exported)


def _plain(exported: Exported) -> dict:
    return {
        "path": exported.path,
        "format": exported.format,
        "bytes": _size(exported),
        "dynamic": list(exported.dynamic),
        "checks": [{"input": list(shape), "error": error} for shape, error in exported.errors.items()],
    }


def _size(exported: Exported) -> int:
    return Path(exported.path).stat().st_size


def _show(model: str, exported: Exported) -> None:
    table = properties(f"{model} as {exported.format}")
    table.add_row("file", exported.path)
    table.add_row("size", f"{_size(exported) / 1e6:.1f} MB")
    table.add_row("may change", ", ".join(exported.dynamic) or "nothing: every call has the example's shape")
    for shape, error in exported.errors.items():
        table.add_row("checked", f"{'x'.join(map(str, shape))}: within {error:.1e} of the model's largest logit")
    output().print(table)
