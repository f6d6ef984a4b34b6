"""The arguments that several commands share, with their help."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

_LIBRARIES = "Names of effops; [cyan]timm/NAME[/] and [cyan]torchvision/NAME[/] fuse that library's model."

Models = Annotated[str, typer.Option(help=f"Networks, separated by commas. {_LIBRARIES} Default: the suite's own.")]
KnownModels = Annotated[str, typer.Option("--models", help="Networks, separated by commas. Default: the suite's own.")]
Batch = Annotated[str, typer.Option(help="Batch sizes, separated by commas. Default: 1,8; with --quick 1.")]
Resolution = Annotated[int | None, typer.Option(help="Side of the images. Default: every network's own.")]
Dtype = Annotated[str, typer.Option(help="fp32, bf16 or fp16.")]
Peers = Annotated[str, typer.Option(help="Peers of effops, separated by commas. Default: all.")]
Rounds = Annotated[int | None, typer.Option(help="Interleaved rounds, one sample of every provider each.")]
Threads = Annotated[int | None, typer.Option(help="Threads of torch and of effops. Default: torch's own.")]
Compile = Annotated[
    bool, typer.Option("--compile/--no-compile", help="Let peers that compile take part, or leave them out.")
]
Device = Annotated[str, typer.Option(help="Where to compute: cpu or cuda.")]
Quick = Annotated[bool, typer.Option("--quick", help="A smoke test: fewer rounds and cases, no compilers.")]
Output = Annotated[Path | None, typer.Option(help="CSV to write. Default: a file in bench/results.")]
Resume = Annotated[
    bool, typer.Option("--resume", help="Go on after an interruption: cases that the CSV has are not measured again.")
]
