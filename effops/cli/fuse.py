"""``effops fuse``: what becomes of a model of another library, and what it gains."""

from __future__ import annotations

import copy
import importlib
import importlib.util
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from rich.console import Console
from rich.markup import escape
from torch import nn

import effops
from effops.cli.comparison import Comparison, compare, compare_steps
from effops.cli.console import examples, output, print_json, progress, properties, records
from effops.cli.libraries import import_library
from effops.errors import ArgumentError
from effops.fuse import FuseReport

EXAMPLES = examples(
    "effops fuse --timm efficientnet_b0",
    "effops fuse --torchvision mobilenet_v3_large --batch 8 --training",
    "effops fuse --module my_models.py:build --image-size 160 --json",
)


def fuse_command(
    timm: Annotated[str | None, typer.Option(help="Name of a timm model.", show_default=False)] = None,
    torchvision: Annotated[str | None, typer.Option(help="Name of a torchvision model.", show_default=False)] = None,
    module: Annotated[
        str | None,
        typer.Option(
            help="A function without arguments that returns a model: [cyan]file.py:name[/].", show_default=False
        ),
    ] = None,
    image_size: Annotated[int, typer.Option(help="Side of the images in pixels.")] = 224,
    batch: Annotated[int, typer.Option(help="Images in a batch.")] = 1,
    training: Annotated[bool, typer.Option("--training", help="Also verify and time training steps.")] = False,
    threads: Annotated[int | None, typer.Option(help="CPU threads. Default: PyTorch's.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Let a model's blocks run on fused ops: what each became, and the time before and after, verified first."""
    for option, value in (("--image-size", image_size), ("--batch", batch), ("--threads", threads)):
        if value is not None and value < 1:
            raise ArgumentError(f"{option}: got {value}, expected at least 1")
    if training and batch < 2:
        raise ArgumentError(f"--training: needs --batch of at least 2 for the statistics of a batch; got {batch}")
    if threads is not None:
        torch.set_num_threads(threads)
    with progress() as say:
        say("building the model")
        eager = _build(timm, torchvision, module).to(memory_format=torch.channels_last).eval()
        images = torch.randn(batch, 3, image_size, image_size, generator=torch.Generator().manual_seed(0))
        images = images.contiguous(memory_format=torch.channels_last)
        say("converting and verifying")
        fused = effops.fuse(copy.deepcopy(eager).train(training), verify=images)
        say("timing, eager and fused in turn")
        inference = compare(fused.eval(), eager, images)
        steps = compare_steps(fused.train(), eager.train(), images) if training else None
    if as_json:
        print_json(_plain(fused.fuse_report, inference, steps))
    else:
        _show(fused.fuse_report, inference, steps, output())


def _build(timm: str | None, torchvision: str | None, module: str | None) -> nn.Module:
    given = [value for value in (timm, torchvision, module) if value is not None]
    if len(given) != 1:
        raise ArgumentError(f"give one of --timm, --torchvision and --module; got {len(given)}")
    if timm is not None:
        return _of_library("timm", lambda library: library.create_model(timm), timm, "--timm")
    if torchvision is not None:
        return _of_library(
            "torchvision", lambda library: library.models.get_model(torchvision), torchvision, "--torchvision"
        )
    return _of_file(module)


def _of_library(library: str, make: Any, name: str, option: str) -> nn.Module:
    try:
        loaded = import_library(library)
    except (ImportError, RuntimeError) as error:
        raise ArgumentError(
            f"{option}: {library} cannot be imported: {error}. Install it: pip install {library}"
        ) from error
    try:
        return make(loaded)
    except (RuntimeError, ValueError, KeyError) as error:
        raise ArgumentError(f"{option}: {library} has no model {name!r}: {error}") from error


def _of_file(module: str) -> nn.Module:
    path, _, name = module.rpartition(":")
    file = Path(path)
    if not path or not file.is_file():
        raise ArgumentError(f"--module: got {module!r}, expected file.py:function; there is no file {path or module!r}")
    spec = importlib.util.spec_from_file_location(file.stem, file)
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    function = getattr(loaded, name, None)
    if not callable(function):
        raise ArgumentError(f"--module: {path} has no function {name!r}")
    model = function()
    if not isinstance(model, nn.Module):
        raise ArgumentError(f"--module: {name} must return a torch.nn.Module; got {type(model).__name__}")
    return model


def _plain(report: FuseReport, inference: Comparison, steps: Comparison | None) -> dict[str, Any]:
    timed = {"inference": inference, "training": steps}
    return report.as_dict() | {
        name: None if one is None else {**asdict(one), "speedup": one.speedup} for name, one in timed.items()
    }


def _show(report: FuseReport, inference: Comparison, steps: Comparison | None, console: Console) -> None:
    table = records(escape(report.model))
    for heading in ("block", "kind", "became, or why not"):
        table.add_column(heading, overflow="fold")
    for row in report.rows:
        style = "dim" if row.state == "left" else None
        detail = row.detail if row.state == "fused" else f"{row.state}: {row.detail}"
        table.add_row(escape(row.path or "(the model)"), escape(row.kind), escape(detail), style=style)
    console.print(table, "")
    totals = properties("Result")
    totals.add_row("fused", f"{len(report.fused)} blocks, {len(report.left)} left; {report.shares}")
    totals.add_row(
        "output, against eager", f"differs by {inference.logit_difference:.1e}, largest {inference.logit_scale:.1f}"
    )
    for name, one in (("inference", inference), ("training step", steps)):
        if one is not None:
            totals.add_row(
                f"{name}, batch {one.batch}",
                f"{one.fused_ms:.1f} ms, eager channels_last {one.eager_ms:.1f} ms: [bold]{one.speedup:.2f}x[/] "
                f"(medians of {one.rounds} alternating rounds)",
            )
    console.print(totals)
