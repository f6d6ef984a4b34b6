"""``effops classify``: the likeliest classes of photographs, on the kernels, and against eager PyTorch."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

import effops
from effops.cli.comparison import Comparison, compare, eager
from effops.cli.console import bar, examples, output, print_json, properties, records
from effops.cli.prediction import BATCH, Prediction, predict
from effops.data import Preprocess, imagenet_class_names, load_image, read_class_names
from effops.errors import ArgumentError
from effops.models import create_model

EXAMPLES = examples(
    "effops classify cat.jpg --model tf_efficientnet_lite0 --checkpoint efficientnet-lite0-57934424.pth",
    "effops classify *.jpg --model mobilenet_v2 --checkpoint mobilenet_v2-b0353104.pth --compare",
    "effops classify cat.jpg --model mobilenet_v2 --checkpoint FILE --json | jq '.images[0].top[0].name'",
)


@dataclass(frozen=True)
class Outcome:
    """All that a run of the command has to tell."""

    model: str
    checkpoint: Path
    backend: str
    threads: int
    preprocess: Preprocess
    images: list[tuple[Path, tuple[Prediction, ...]]]
    comparison: Comparison | None


def classify(
    images: Annotated[list[Path], typer.Argument(help="Image files.", show_default=False)],
    model: Annotated[str, typer.Option(help="Model name, as in [cyan]effops list[/].", show_default=False)],
    checkpoint: Annotated[Path, typer.Option(help="Checkpoint file of that model.", show_default=False)],
    topk: Annotated[int, typer.Option(help="Classes to show for each image.")] = 5,
    backend: Annotated[
        str | None,
        typer.Option(help="Run on this backend or stop. Default: the best that serves this machine."),
    ] = None,
    with_eager: Annotated[
        bool, typer.Option("--compare", help="Also run eager PyTorch: logit difference and time ratio.")
    ] = False,
    threads: Annotated[int | None, typer.Option(help="CPU threads. Default: PyTorch's.")] = None,
    interpolation: Annotated[
        str | None, typer.Option(help="Resize filter, bilinear or bicubic. Default: the model's.")
    ] = None,
    num_classes: Annotated[int, typer.Option(help="Classes of the checkpoint.")] = 1000,
    class_names: Annotated[
        Path | None, typer.Option(help="Text file, one class name a line. Default: ImageNet's.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Name what photographs show, with the probability of each of the likeliest classes."""
    if not 1 <= topk <= num_classes:
        raise ArgumentError(f"--topk: got {topk}, expected 1 to {num_classes}, the number of classes")
    if threads is not None:
        if threads < 1:
            raise ArgumentError(f"--threads: got {threads}, expected at least 1")
        torch.set_num_threads(threads)
    names = _class_names(class_names, num_classes)

    with nullcontext() if backend is None else effops.backend(backend):
        network = create_model(model, num_classes=num_classes, checkpoint=checkpoint).eval()
        preprocess = Preprocess.from_config(network.default_cfg)
        if interpolation is not None:
            preprocess = replace(preprocess, interpolation=interpolation)
        inputs = torch.stack([preprocess(load_image(path)) for path in images])
        outcome = Outcome(
            model=model,
            checkpoint=checkpoint,
            backend=_backend_in_use(),
            threads=torch.get_num_threads(),
            preprocess=preprocess,
            images=list(zip(images, predict(network, inputs, names, topk), strict=True)),
            comparison=compare(network, eager(network), inputs[:BATCH]) if with_eager else None,
        )
    if as_json:
        print_json(_plain(outcome))
    else:
        _show(outcome, output())


def _class_names(path: Path | None, num_classes: int) -> tuple[str, ...]:
    if path is not None:
        return read_class_names(path, num_classes)
    imagenet = imagenet_class_names()
    if num_classes == len(imagenet):
        return imagenet
    return tuple(f"class {index}" for index in range(num_classes))


def _backend_in_use() -> str:
    """What effops runs the network's pointwise convolutions on: the forced backend, or the one that it chooses."""
    return effops.explain("pointwise_conv_act", torch.zeros(1, 1, 1, 1), torch.zeros(1, 1)).backend


def _plain(outcome: Outcome) -> dict[str, Any]:
    comparison = outcome.comparison
    return {
        "model": outcome.model,
        "checkpoint": str(outcome.checkpoint),
        "backend": outcome.backend,
        "threads": outcome.threads,
        "preprocess": asdict(outcome.preprocess),
        "images": [
            {"path": str(path), "top": [asdict(prediction) for prediction in top]} for path, top in outcome.images
        ],
        "comparison": None if comparison is None else {**asdict(comparison), "speedup": comparison.speedup},
    }


def _show(outcome: Outcome, console: Console) -> None:
    for path, top in outcome.images:
        table = records(escape(path.name))
        table.add_column("class", justify="right")
        table.add_column("name", min_width=24, overflow="fold")
        table.add_column("probability", justify="right")
        table.add_column("")
        for prediction in top:
            table.add_row(
                str(prediction.index),
                escape(prediction.name),
                f"{prediction.probability:.1%}",
                bar(prediction.probability, console),
            )
        console.print(table, "")
    pipeline = outcome.preprocess
    run = properties("Run")
    run.add_row("model", outcome.model)
    run.add_row("backend", f"{outcome.backend}, {outcome.threads} threads")
    run.add_row("resize", f"shorter side to {pipeline.resize_to}, {pipeline.interpolation}")
    run.add_row("crop", f"centre {pipeline.resolution} x {pipeline.resolution}")
    if outcome.comparison is not None:
        _add_comparison(run, outcome.comparison)
    console.print(run)


def _add_comparison(table: Table, comparison: Comparison) -> None:
    images = "1 image" if comparison.batch == 1 else f"{comparison.batch} images"
    difference = f"[bold]{comparison.logit_difference:.1e}[/], the largest logit is {comparison.logit_scale:.1f}"
    table.add_row("logits, against eager", f"differ by at most {difference}")
    table.add_row(f"time for {images}", f"{comparison.fused_ms:.1f} ms, eager {comparison.eager_ms:.1f} ms")
    table.add_row(
        "eager time / this time",
        f"[bold]{comparison.speedup:.2f}[/] (medians of {comparison.rounds} alternating rounds)",
    )
