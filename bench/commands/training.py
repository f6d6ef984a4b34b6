"""``train``: training steps."""

from __future__ import annotations

from typing import Annotated

import typer

from bench import device as devices
from bench import environment, options, tables
from bench.peers import TrainingPeer, registry
from bench.selection import select
from bench.suites import train as suite
from bench.training import profiling

from .arguments import Compile, Device, KnownModels, Output, Peers, Quick, Resume, Threads
from .run import Run, console, set_threads

TRAIN_EXAMPLES = """[bold]Examples[/bold]

Two networks, batch 16, float32 and bfloat16 autocast; ten minutes on two cores: [cyan]python -m bench train[/cyan]

One network in float32: [cyan]python -m bench train --models efficientnet_b0 --dtypes fp32 --no-compile[/cyan]

A smoke test of it: [cyan]python -m bench train --quick[/cyan]

Where a step spends its time: [cyan]python -m bench train --profile --models mobilenetv3_large_100[/cyan]"""


def train(
    models: KnownModels = "",
    batch: Annotated[str, typer.Option(help="Batch sizes, separated by commas. Default: 16; with --quick 4.")] = "",
    resolution: Annotated[
        int | None, typer.Option("--resolution", "--size", help="Side of the images. Default: 224; with --quick 64.")
    ] = None,
    dtypes: Annotated[
        str, typer.Option("--dtypes", "--dtype", help="fp32, bf16 or fp16 (autocast). Default: fp32 and bf16.")
    ] = "",
    peers: Peers = "",
    rounds: Annotated[
        int | None, typer.Option(help="Interleaved rounds, one sample of every provider each. Default: as time allows.")
    ] = None,
    threads: Threads = None,
    compile: Compile = True,
    device: Device = "cpu",
    quick: Quick = False,
    resume: Resume = False,
    output: Output = None,
    profile: Annotated[
        bool, typer.Option("--profile", help="Show where the time of effops' step goes, for the first case; no timing.")
    ] = False,
) -> None:
    """Time training steps, and what they hold in memory, against the same networks in plain torch."""
    devices.use(device)
    options.positive("--resolution", resolution)
    chosen_dtypes = options.dtypes(dtypes)
    selection = select(registry(TrainingPeer), options.names(peers), compile=compile, quick=quick)
    plan = options.schedule(suite.SCHEDULE, rounds, quick=quick)
    set_threads(threads)
    here = environment.capture()
    batches = options.batches(batch, quick=quick, usual=suite.BATCHES[quick])
    resolution = resolution or suite.RESOLUTION[quick]
    tasks = suite.tasks(options.names(models) or suite.NAMES, batches, resolution, chosen_dtypes, here)
    if profile:
        profiling.show(console, tasks[0].label, suite.profiled(tasks[0]))
        return
    path = options.output(output, "train", chosen_dtypes, here, quick=quick)
    Run(selection, plan, here, path, resume).finish(tasks, tables.train_table)
