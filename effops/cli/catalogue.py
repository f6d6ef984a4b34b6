"""``effops list`` and ``effops info``: which models there are, and what they cost."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from effops.arch import ARCHS, Arch, find_arch
from effops.cli.console import examples, output, print_json, properties, records
from effops.errors import ArgumentError
from effops.models import ModelInfo, list_models, model_info

LIST_EXAMPLES = examples("effops list", "effops list 'efficientnet*'", "effops list 'mobilenetv2*' --json")

INFO_EXAMPLES = examples(
    "effops info efficientnet_b0",
    "effops info mobilenetv3_large_100 --resolution 160 --num-classes 10",
)

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def list_command(
    glob: Annotated[str, typer.Argument(help="Pattern with * and ?, in quotes.")] = "*",
    as_json: AsJson = False,
) -> None:
    """List the models, with resolution, parameters and multiply-accumulates."""
    names = list_models(glob)
    if not names:
        raise ArgumentError(f"GLOB: no model name matches {glob!r}; 'effops list' shows all of them")
    infos = [model_info(name) for name in names]
    if as_json:
        print_json([_summary(info) for info in infos])
        return
    table = records()
    table.add_column("model", no_wrap=True)
    for heading in ("resolution", "params (M)", "MACs (M)"):
        table.add_column(heading, justify="right")
    for info in infos:
        table.add_row(info.name, str(info.resolution), f"{info.params / 1e6:.2f}", f"{info.macs / 1e6:,.0f}")
    output().print(table)


def info_command(
    name: Annotated[str, typer.Argument(help="Model name, as in [cyan]effops list[/].", show_default=False)],
    resolution: Annotated[int | None, typer.Option(help="Side of the input in pixels. Default: the model's.")] = None,
    num_classes: Annotated[int | None, typer.Option(help="Classes of the classifier. Default: the model's.")] = None,
    as_json: AsJson = False,
) -> None:
    """Show a model's parameters, multiply-accumulates (MACs), activations and stages, all counted exactly."""
    info = model_info(name, resolution=resolution, num_classes=num_classes)
    if as_json:
        print_json({**asdict(info), "port": find_arch(name).port, "twins": _twins(find_arch(name))})
    else:
        _show(info, find_arch(name), output())


def _summary(info: ModelInfo) -> dict[str, str | int]:
    return {"name": info.name, "resolution": info.resolution, "params": info.params, "macs": info.macs}


def _show(info: ModelInfo, arch: Arch, console: Console) -> None:
    totals = properties(info.name)
    totals.add_row("family", escape(info.family))
    totals.add_row("source", escape(info.source))
    totals.add_row("weights from", f"{arch.port}: {arch.padding} padding, {arch.norm.kind} norm eps {arch.bn_eps:g}")
    if twins := _twins(arch):
        totals.add_row("same layers", ", ".join(f"{name} ({port})" for name, port in twins.items()))
    totals.add_row("input", f"{info.resolution} x {info.resolution}, {arch.preprocessing.interpolation} resize")
    totals.add_row("parameters", f"{info.params:,}")
    totals.add_row("with batch norm statistics", f"{info.params_with_bn_stats:,}")
    totals.add_row("MACs", f"{info.macs:,}")
    totals.add_row("of which depthwise", f"{info.dw_macs:,} ({info.dw_macs / info.macs:.1%})")
    totals.add_row("activations", f"{info.activations:,}")
    console.print(totals, "")
    console.print(_stages(info))


def _twins(arch: Arch) -> dict[str, str]:
    """Models with the same layers whose weights were trained elsewhere, and where."""
    return {row.name: row.port for row in ARCHS.values() if row.name != arch.name and row.same_layers(arch)}


def _stages(info: ModelInfo) -> Table:
    table = records("Stages")
    for heading in ("stage", "blocks", "channels", "side", "params", "MACs", "activations"):
        table.add_column(heading, justify="left" if heading == "stage" else "right")
    for stage in info.stages:
        table.add_row(
            stage.name,
            str(stage.depth),
            _change(stage.in_channels, stage.out_channels),
            _change(stage.in_size, stage.out_size),
            f"{stage.params:,}",
            f"{stage.macs:,}",
            f"{stage.activations:,}",
        )
    return table


def _change(before: int, after: int) -> str:
    return f"{before} -> {after}"
