"""``ops``, ``kernels`` and ``overhead``: what networks are made of."""

from __future__ import annotations

from typing import Annotated

import typer

from bench import allocator, environment, limits, options, tables
from bench import device as devices
from bench.errors import unknown
from bench.peers import EvalPeer, registry
from bench.selection import Selection, select
from bench.shapes import without_ops
from bench.suites import kernels as kernels_suite
from bench.suites import models as models_suite
from bench.suites import ops as ops_suite
from bench.suites import overhead as overhead_suite
from effops.arch import find_arch

from .arguments import Batch, Compile, Device, Dtype, KnownModels, Output, Peers, Quick, Resume, Rounds, Threads
from .run import Run, console, set_threads

OPS_EXAMPLES = """[bold]Examples[/bold]

All ops at the shapes of four networks: [cyan]python -m bench ops[/cyan]

One op at those of one network: [cyan]python -m bench ops --ops depthwise_conv_act --models mobilenetv2_100
--batch 8[/cyan]"""

KERNELS_EXAMPLES = """[bold]Examples[/bold]

All rows of the op table: [cyan]python -m bench kernels[/cyan]

Two of them: [cyan]python -m bench kernels --rows batch_norm_stats,depthwise_conv_backward --batch 16[/cyan]"""

OVERHEAD_EXAMPLES = """[bold]Examples[/bold]

Ops, blocks and networks against eager and compiled torch:
[cyan]python -m bench overhead[/cyan]

Half a minute, without compilers: [cyan]python -m bench overhead --no-compile[/cyan]

One network: [cyan]python -m bench overhead --parts networks --models mobilenetv3_small_100[/cyan]"""


def ops(
    ops: Annotated[str, typer.Option(help="Functions of effops.ops, separated by commas. Default: all.")] = "",
    models: KnownModels = "",
    batch: Batch = "",
    dtype: Dtype = "fp32",
    peers: Peers = "",
    rounds: Rounds = None,
    threads: Threads = None,
    warm: Annotated[bool, typer.Option("--warm", help="Read the same buffers in every call.")] = False,
    compile: Compile = True,
    device: Device = "cpu",
    quick: Quick = False,
    resume: Resume = False,
    output: Output = None,
) -> None:
    """Time single ops at the networks' shapes, against unfused torch and against the machine's limits."""
    devices.use(device)
    chosen_dtype = options.dtype(dtype)
    wanted = ops_suite.known_ops(options.names(ops))
    selection = select(_of_single_ops(), options.names(peers), compile=compile, quick=quick)
    plan = options.schedule(ops_suite.SCHEDULE, rounds, quick=quick)
    set_threads(threads)
    batches = options.batches(batch, quick=quick)
    names = options.names(models) or models_suite.NAMES
    found = ops_suite.unique_problems(names, wanted)
    for name in names:
        _say_what_is_left_out(name)
    kept = allocator.keep_blocks()
    here = environment.capture()
    rate = limits.gemm_gflops(chosen_dtype)
    console.print(f"matrix product: {rate:.0f} GFLOP/s in {chosen_dtype}", highlight=False)
    tasks = ops_suite.tasks(
        ops_suite.quick_subset(found) if quick else found,
        batches,
        chosen_dtype,
        here,
        gemm_gflops=rate,
        cold=not warm,
        allocator=kept,
    )
    path = options.output(output, "ops", [chosen_dtype], here, quick=quick)
    Run(selection, plan, here, path, resume).finish(tasks, tables.ops_table)


def _say_what_is_left_out(name: str) -> None:
    left_out = without_ops(find_arch(name))
    for reason in dict.fromkeys(left_out.values()):
        convs = [conv for conv, why in left_out.items() if why == reason]
        console.print(f"{name}: {len(convs)} convolutions are no op, such as {convs[0]}: {reason}", highlight=False)


def kernels(
    rows: Annotated[str, typer.Option(help="Rows of the op table, separated by commas. Default: all.")] = "",
    batch: Annotated[str, typer.Option(help="Batch sizes. Default: 4 on a CPU, 128 on a GPU.")] = "",
    dtype: Dtype = "fp32",
    rounds: Rounds = None,
    threads: Threads = None,
    device: Device = "cpu",
    quick: Quick = False,
    resume: Resume = False,
    output: Output = None,
) -> None:
    """Time the rows of the op table, those of training too, in every backend of the device."""
    devices.use(device)
    chosen_dtype = options.dtype(dtype)
    wanted = kernels_suite.known_rows(options.names(rows))
    plan = options.schedule(kernels_suite.SCHEDULE, rounds, quick=quick)
    set_threads(threads)
    batches = options.batches(batch, quick=quick, usual=kernels_suite.BATCHES[device])
    kept = allocator.keep_blocks()
    here = environment.capture()
    rate = limits.gemm_gflops(chosen_dtype)
    tasks = kernels_suite.tasks(wanted, batches, chosen_dtype, here, gemm_gflops=rate, allocator=kept, quick=quick)
    path = options.output(output, "kernels", [chosen_dtype], here, quick=quick)
    Run(Selection([]), plan, here, path, resume).finish(tasks, tables.ops_table)


def overhead(
    parts: Annotated[str, typer.Option(help="ops, blocks, networks, separated by commas. Default: all.")] = "",
    models: Annotated[
        str, typer.Option(help="Networks, on images of 32 x 32 pixels, separated by commas. Default: the suite's own.")
    ] = "",
    dtype: Dtype = "fp32",
    peers: Peers = "",
    rounds: Rounds = None,
    threads: Annotated[
        int, typer.Option(help="Threads of torch and of effops. With more, the wake-up of the others counts too.")
    ] = 1,
    compile: Compile = True,
    device: Device = "cpu",
    quick: Quick = False,
    resume: Resume = False,
    output: Output = None,
) -> None:
    """Time what a call costs beside its kernels: ops and blocks on one pixel, and networks on tiny images."""
    devices.use(device)
    chosen_dtype = options.dtype(dtype)
    wanted = options.names(parts) or overhead_suite.PARTS
    for part in wanted:
        if part not in overhead_suite.PARTS:
            raise unknown("part", part, overhead_suite.PARTS, f"the parts are {', '.join(overhead_suite.PARTS)}")
    selection = select(_of_single_ops(), options.names(peers), compile=compile, quick=quick)
    plan = options.schedule(overhead_suite.SCHEDULE, rounds, quick=quick)
    set_threads(threads)
    here = environment.capture()
    tasks = overhead_suite.tasks(wanted, options.names(models), chosen_dtype, here, quick=quick)
    path = options.output(output, "overhead", [chosen_dtype], here, quick=quick)
    Run(selection, plan, here, path, resume).finish(tasks, tables.overhead_table)


def _of_single_ops() -> dict[str, EvalPeer]:
    return {name: peer for name, peer in registry(EvalPeer).items() if peer.single_ops}
