"""``models``, ``scaling`` and ``split``: whole networks in eval."""

from __future__ import annotations

from typing import Annotated

import typer

from bench import cliffs, environment, limits, options, standings, tables
from bench import device as devices
from bench.errors import BenchError
from bench.peers import EvalPeer, registry
from bench.selection import Selection, is_subject, select, timed
from bench.suites import models as models_suite
from bench.suites import scaling as scaling_suite

from .arguments import (
    Batch,
    Compile,
    Device,
    Dtype,
    Models,
    Output,
    Peers,
    Quick,
    Resolution,
    Resume,
    Rounds,
    Threads,
)
from .run import Run, set_threads

MODELS_EXAMPLES = """[bold]Examples[/bold]

Four networks, batch 1 and 8, all peers: [cyan]python -m bench models[/cyan]

One, against the engines: [cyan]python -m bench models --models mobilenetv2_100 --batch 1,16
--peers onnxruntime,openvino[/cyan]

Any network of timm or torchvision: [cyan]python -m bench models --models timm/mnasnet_100 --dtype bf16[/cyan]

What effops means to reach, and whether it does; most of an hour: [cyan]python -m bench models --goals[/cyan]"""

SCALING_EXAMPLES = """[bold]Examples[/bold]

One network, batch 1 to 64 and 128 to 512 pixels: [cyan]python -m bench scaling[/cyan]

Batch sizes alone, against eager: [cyan]python -m bench scaling --batch 1,2,3,4,6,8 --resolutions none
--peers channels_last[/cyan]

Another network: [cyan]python -m bench scaling --models timm/mnasnet_100 --dtype bf16[/cyan]"""

SPLIT_EXAMPLES = """[bold]Examples[/bold]

Two networks, batch 1; a minute: [cyan]python -m bench split[/cyan]

Others: [cyan]python -m bench split --models tf_efficientnet_lite0,mobilenetv2_100 --batch 1,8[/cyan]

Its figure: [cyan]python -m bench plot bench/results/split-*.csv[/cyan]"""


def models(
    models: Models = "",
    batch: Batch = "",
    resolution: Resolution = None,
    dtype: Dtype = "fp32",
    peers: Peers = "",
    rounds: Rounds = None,
    threads: Threads = None,
    compile: Compile = True,
    device: Device = "cpu",
    goals: Annotated[
        bool, typer.Option("--goals", help="The networks, sizes and batches that effops has goals for, on the CPU.")
    ] = False,
    quick: Quick = False,
    resume: Resume = False,
    output: Output = None,
) -> None:
    """Time whole networks in eval against the same networks in plain torch."""
    if goals and (models or batch or resolution or device != "cpu"):
        raise BenchError("--goals has its own networks, batches and resolutions, on the CPU; leave out other choices")
    devices.use(device)
    options.positive("--resolution", resolution)
    chosen_dtype = options.dtype(dtype)
    selection = select(timed(registry(EvalPeer)), options.names(peers), compile=compile, quick=quick)
    plan = options.schedule(models_suite.SCHEDULE, rounds, quick=quick)
    set_threads(threads)
    here = environment.capture()
    if goals:
        tasks = models_suite.goal_tasks(chosen_dtype, here)
    else:
        names = options.names(models) or models_suite.NAMES
        tasks = models_suite.tasks(names, options.batches(batch, quick=quick), resolution, chosen_dtype, here)
    path = options.output(output, "models", [chosen_dtype], here, quick=quick)
    Run(selection, plan, here, path, resume).finish(tasks, tables.models_table, standings.summary)


def scaling(
    models: Models = "",
    batch: Annotated[
        str,
        typer.Option(
            help="Batch sizes, at each network's own resolution, or none. Default: 1 to 64; with --quick 1 to 4."
        ),
    ] = "",
    resolutions: Annotated[
        str, typer.Option(help="Sides of the images, at batch 1, or none. Default: 128 to 512; with --quick to 192.")
    ] = "",
    dtype: Dtype = "fp32",
    peers: Annotated[
        str, typer.Option(help="Peers of effops, separated by commas. Default: channels_last and onnxruntime.")
    ] = "",
    rounds: Rounds = None,
    threads: Threads = None,
    compile: Compile = True,
    device: Device = "cpu",
    quick: Quick = False,
    resume: Resume = False,
    output: Output = None,
) -> None:
    """Time networks over batch sizes and resolutions, and say where time per image or pixel has a cliff."""
    devices.use(device)
    chosen_dtype = options.dtype(dtype)
    known = timed(registry(EvalPeer))
    usual = {name: peer for name, peer in known.items() if is_subject(name) or name in scaling_suite.PEERS}
    selection = select(known if peers else usual, options.names(peers), compile=compile, quick=quick)
    plan = options.schedule(scaling_suite.SCHEDULE, rounds, quick=quick)
    set_threads(threads)
    here = environment.capture()
    batches = options.sweep("--batch", batch, scaling_suite.BATCHES[quick])
    sides = options.sweep("--resolutions", resolutions, scaling_suite.RESOLUTIONS[quick])
    if not batches and not sides:
        raise BenchError("--batch none and --resolutions none leave nothing to measure; give numbers to one of them")
    tasks = scaling_suite.tasks(options.names(models) or scaling_suite.NAMES, batches, sides, chosen_dtype, here)
    path = options.output(output, "scaling", [chosen_dtype], here, quick=quick)
    Run(selection, plan, here, path, resume).finish(tasks, cliffs.report)


def split(
    models: Models = "",
    batch: Annotated[str, typer.Option(help="Batch sizes, separated by commas. Default: 1.")] = "",
    resolution: Resolution = None,
    dtype: Annotated[str, typer.Option(help="fp32 or bf16.")] = "fp32",
    rounds: Annotated[int | None, typer.Option(help="Timed calls, and as many under the profiler.")] = None,
    threads: Threads = None,
    quick: Annotated[bool, typer.Option("--quick", help="A smoke test: fewer rounds.")] = False,
    resume: Resume = False,
    output: Output = None,
) -> None:
    """Show where the time of effops' networks goes in eval on a CPU: a kind of kernel a line, with its rates."""
    # Counting the work of ops imports triton: seconds that no other command should wait for.
    from bench.suites import split as split_suite

    devices.use("cpu")
    options.positive("--resolution", resolution)
    chosen_dtype = options.dtype(dtype)
    plan = options.schedule(split_suite.SCHEDULE, rounds, quick=quick)
    set_threads(threads)
    here = environment.capture()
    names = options.names(models) or split_suite.NAMES
    batches = options.batches(batch, quick=quick, usual=(1,))
    networks = models_suite.tasks(names, batches, resolution, chosen_dtype, here)
    path = options.output(output, "split", [chosen_dtype], here, quick=quick)
    tasks = split_suite.tasks(networks, limits.gemm_gflops(chosen_dtype))
    Run(Selection([]), plan, here, path, resume).finish(tasks, tables.split_table)
