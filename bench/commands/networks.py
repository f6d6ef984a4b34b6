"""``models``: whole networks in eval."""

from __future__ import annotations

from bench import device as devices
from bench import environment, options, tables
from bench.peers import EvalPeer, registry
from bench.selection import select
from bench.suites import models as models_suite

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
    quick: Quick = False,
    resume: Resume = False,
    output: Output = None,
) -> None:
    """Time whole networks in eval against the same networks in plain torch."""
    devices.use(device)
    options.positive("--resolution", resolution)
    chosen_dtype = options.dtype(dtype)
    selection = select(registry(EvalPeer), options.names(peers), compile=compile, quick=quick)
    plan = options.schedule(models_suite.SCHEDULE, rounds, quick=quick)
    set_threads(threads)
    here = environment.capture()
    batches = options.batches(batch, quick=quick)
    names = options.names(models) or models_suite.NAMES
    tasks = models_suite.tasks(names, batches, resolution, chosen_dtype, here)
    path = options.output(output, "models", [chosen_dtype], here, quick=quick)
    Run(selection, plan, here, path, resume).finish(tasks, tables.models_table)
