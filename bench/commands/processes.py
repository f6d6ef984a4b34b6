"""``coldstart`` and ``memory``: every provider in fresh processes, on the CPU."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import torch
import typer

from bench import environment, options
from bench.fresh import report
from bench.peers import EvalPeer, registry
from bench.selection import select, timed
from bench.suites import fresh as suite
from bench.timing import Schedule

from .arguments import Compile, Dtype, Models, Output, Peers, Quick, Resolution, Resume, Threads
from .run import Run, set_threads

COLDSTART_EXAMPLES = """[bold]Examples[/bold]

Two networks, all peers, torch.compile ten times: [cyan]python -m bench coldstart[/cyan]

Without what compiles for long: [cyan]python -m bench coldstart --no-compile[/cyan]

One network of torchvision, against one engine: [cyan]python -m bench coldstart --models torchvision/mobilenet_v3_large
--peers openvino[/cyan]"""

MEMORY_EXAMPLES = """[bold]Examples[/bold]

EfficientNet-B4 and B0 at their own resolution, batch 1: [cyan]python -m bench memory[/cyan]

Against two engines, batch 1 and 8: [cyan]python -m bench memory --peers onnxruntime,openvino --batch 1,8[/cyan]"""

OneBatch = Annotated[str, typer.Option("--batch", help="Batch sizes, separated by commas. Default: 1.")]
Repetitions = Annotated[
    int | None, typer.Option("--rounds", help="Processes of every provider. Default: 5, of memory 3; with --quick 1.")
]


def coldstart(
    models: Models = "",
    batch: OneBatch = "",
    resolution: Resolution = None,
    dtype: Dtype = "fp32",
    peers: Peers = "",
    rounds: Repetitions = None,
    threads: Threads = None,
    compile: Compile = True,
    quick: Quick = False,
    resume: Resume = False,
    output: Output = None,
) -> None:
    """Time from a model with its weights to the first result, each provider in fresh processes."""
    run, dtype = _prepared(
        suite.ColdStartTask, dtype, peers, rounds, threads, compile=compile, quick=quick, resume=resume, output=output
    )
    tasks = _tasks(suite.ColdStartTask, models, batch, resolution, dtype, run, quick=quick)
    run.finish(tasks, report.start_report)


def memory(
    models: Models = "",
    batch: OneBatch = "",
    resolution: Resolution = None,
    dtype: Dtype = "fp32",
    peers: Peers = "",
    rounds: Repetitions = None,
    threads: Threads = None,
    compile: Compile = True,
    quick: Quick = False,
    resume: Resume = False,
    output: Output = None,
) -> None:
    """Measure the peak resident memory of an inference, each provider in fresh processes."""
    run, dtype = _prepared(
        suite.MemoryTask, dtype, peers, rounds, threads, compile=compile, quick=quick, resume=resume, output=output
    )
    tasks = _tasks(suite.MemoryTask, models, batch, resolution, dtype, run, quick=quick)
    run.finish(tasks, report.memory_report)


def _prepared(
    kind: type[suite.FreshTask],
    dtype: str,
    peers: str,
    rounds: int | None,
    threads: int | None,
    *,
    compile: bool,
    quick: bool,
    resume: bool,
    output: Path | None,
) -> tuple[Run, torch.dtype]:
    chosen = options.dtype(dtype)
    options.positive("--rounds", rounds)
    known = registry(EvalPeer)
    selection = select(
        known if kind is suite.MemoryTask else timed(known), options.names(peers), compile=compile, quick=quick
    )
    set_threads(threads)
    here = environment.capture()
    plan = Schedule(rounds or (1 if quick else suite.REPETITIONS[kind]), sample_seconds=0.0, warmup_seconds=0.0)
    path = options.output(output, kind.suite, [chosen], here, quick=quick)
    return Run(selection, plan, here, path, resume), chosen


def _tasks(
    kind: type[suite.FreshTask],
    models: str,
    batch: str,
    resolution: int | None,
    dtype: torch.dtype,
    run: Run,
    *,
    quick: bool,
) -> list[suite.FreshTask]:
    options.positive("--resolution", resolution)
    batches = options.batches(batch, quick=quick, usual=(1,))
    return suite.tasks(kind, options.names(models), batches, resolution, dtype, run.environment, quick=quick)
