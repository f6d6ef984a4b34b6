"""The command line of the bench: ``python -m bench``, from the root of a checkout."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import torch
import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from effops.errors import EffopsError

from . import allocator, environment, limits, options, record, runner, tables
from . import device as devices
from .commands_report import PLOT_EXAMPLES, REPORT_EXAMPLES, SPLIT_EXAMPLES, plot, report, split
from .compare import SAME, compare
from .errors import BenchError
from .peers import EvalPeer, Peer, TrainingPeer, registry
from .selection import SUBJECT, Selection, is_subject, select
from .timing import Schedule
from .training import profiling

_EXAMPLES = """[bold]Examples[/bold]

Four networks, batch 1 and 8, all peers: [cyan]python -m bench models[/cyan]

A smoke test of it: [cyan]python -m bench models --quick[/cyan]

One network: [cyan]python -m bench models --models mobilenetv2_100 --batch 1,16 --peers channels_last[/cyan]

One op against the machine's limits: [cyan]python -m bench ops --ops depthwise_conv_act --batch 8[/cyan]

Training steps of two networks: [cyan]python -m bench train[/cyan]

Where the time of a network goes: [cyan]python -m bench split --models efficientnet_b0[/cyan]

Figures: [cyan]python -m bench plot bench/results/*.csv[/cyan]

One page to read, of all results: [cyan]python -m bench report --output report.html[/cyan]

Did effops become slower? [cyan]python -m bench compare OLD.csv NEW.csv[/cyan]"""

_TRAIN_EXAMPLES = """[bold]Examples[/bold]

Two networks, batch 16, float32 and bfloat16 autocast; ten minutes on two cores: [cyan]python -m bench train[/cyan]

One network in float32: [cyan]python -m bench train --models efficientnet_b0 --dtypes fp32 --no-compile[/cyan]

A smoke test of it: [cyan]python -m bench train --quick[/cyan]

Where a step spends its time: [cyan]python -m bench train --profile --models mobilenetv3_large_100[/cyan]"""

app = typer.Typer(
    help="effops against its peers: interleaved, verified, with the environment in every row.",
    epilog=_EXAMPLES,
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    add_completion=False,
)
_NUMBERS = ("batch", "old ms", "new ms", "change", "drift")
_console = tables.console()
_errors = Console(stderr=True)

Models = Annotated[str, typer.Option(help="Networks, separated by commas. Default: the suite's own.")]
Batch = Annotated[str, typer.Option(help="Batch sizes, separated by commas. Default: 1,8; with --quick 1.")]
Dtype = Annotated[str, typer.Option(help="fp32, bf16 or fp16.")]
Peers = Annotated[str, typer.Option(help="Peers of effops, separated by commas. Default: all.")]
Rounds = Annotated[int | None, typer.Option(help="Interleaved rounds, one sample of every provider each.")]
Threads = Annotated[int | None, typer.Option(help="Threads of torch and of effops. Default: torch's own.")]
Compile = Annotated[bool, typer.Option("--compile/--no-compile", help="Leave out peers that compile.")]
Device = Annotated[str, typer.Option(help="Where to compute: cpu or cuda.")]
Quick = Annotated[bool, typer.Option("--quick", help="A smoke test: fewer rounds and cases, no compilers.")]
Output = Annotated[Path | None, typer.Option(help="CSV to write. Default: a file in bench/results.")]


def _set_threads(threads: int | None) -> None:
    options.positive("--threads", threads)
    if threads is not None:
        torch.set_num_threads(threads)


def _finish(tasks: Sequence[runner.Task], selection: Selection, plan: Schedule, path: Path, table) -> None:
    """Run, report, and leave with code 1 when effops is wrong or failed."""
    rows = runner.run(tasks, selection, plan, path, _console)
    _console.print(table(rows))
    tables.print_environment(_console, rows)
    tables.print_exclusions(_console, rows)
    tables.print_noise(_console, rows)
    _console.print(f"wrote {path}", soft_wrap=True, highlight=False)
    # A mode of effops may be missing, effops itself may not.
    invalid = [
        row
        for row in rows
        if is_subject(row.provider) and row.status != "ok" and (row.provider == SUBJECT or row.status != "skipped")
    ]
    if invalid:
        _errors.print(f"[red]effops gave no valid result in {len(invalid)} cases: see above")
        raise typer.Exit(1)


@app.command()
def models(
    models: Models = "",
    batch: Batch = "",
    resolution: Annotated[int | None, typer.Option(help="Side of the images. Default: every network's own.")] = None,
    dtype: Dtype = "fp32",
    peers: Peers = "",
    rounds: Rounds = None,
    threads: Threads = None,
    compile: Compile = True,
    device: Device = "cpu",
    quick: Quick = False,
    output: Output = None,
) -> None:
    """Time whole networks in eval against the same networks in plain torch."""
    from .suites import models as suite

    devices.use(device)
    options.positive("--resolution", resolution)
    chosen_dtype = options.dtype(dtype)
    selection = select(registry(EvalPeer), options.names(peers), compile=compile, quick=quick)
    plan = options.schedule(suite.SCHEDULE, rounds, quick=quick)
    _set_threads(threads)
    here = environment.capture()
    batches = options.batches(batch, quick=quick)
    tasks = suite.tasks(options.names(models) or suite.NAMES, batches, resolution, chosen_dtype, here)
    path = options.output(output, "models", [chosen_dtype], here, quick=quick)
    _finish(tasks, selection, plan, path, tables.models_table)


@app.command()
def ops(
    ops: Annotated[str, typer.Option(help="Functions of effops.ops, separated by commas. Default: all.")] = "",
    models: Models = "",
    batch: Batch = "",
    dtype: Dtype = "fp32",
    peers: Peers = "",
    rounds: Rounds = None,
    threads: Threads = None,
    warm: Annotated[bool, typer.Option("--warm", help="Read the same buffers in every call.")] = False,
    compile: Compile = True,
    device: Device = "cpu",
    quick: Quick = False,
    output: Output = None,
) -> None:
    """Time single ops at the networks' shapes, against unfused torch and against the machine's limits."""
    from .suites import models as networks
    from .suites import ops as suite

    devices.use(device)
    chosen_dtype = options.dtype(dtype)
    wanted = suite.known_ops(options.names(ops))
    known = {name: peer for name, peer in registry(EvalPeer).items() if peer.single_ops}
    selection = select(known, options.names(peers), compile=compile, quick=quick)
    plan = options.schedule(suite.SCHEDULE, rounds, quick=quick)
    _set_threads(threads)
    batches = options.batches(batch, quick=quick)
    found = suite.unique_problems(options.names(models) or networks.NAMES, wanted)
    kept = allocator.keep_blocks()
    here = environment.capture()
    rate = limits.gemm_gflops(chosen_dtype)
    _console.print(f"matrix product: {rate:.0f} GFLOP/s in {chosen_dtype}", highlight=False)
    tasks = suite.tasks(
        suite.quick_subset(found) if quick else found,
        batches,
        chosen_dtype,
        here,
        gemm_gflops=rate,
        cold=not warm,
        allocator=kept,
    )
    path = options.output(output, "ops", [chosen_dtype], here, quick=quick)
    _finish(tasks, selection, plan, path, tables.ops_table)


@app.command()
def kernels(
    rows: Annotated[str, typer.Option(help="Rows of the op table, separated by commas. Default: all.")] = "",
    batch: Annotated[str, typer.Option(help="Batch sizes. Default: 4 on a CPU, 128 on a GPU.")] = "",
    dtype: Dtype = "fp32",
    rounds: Rounds = None,
    threads: Threads = None,
    device: Device = "cpu",
    quick: Quick = False,
    output: Output = None,
) -> None:
    """Time the rows of the op table, those of training too, in every backend of the device."""
    from .suites import kernels as suite

    devices.use(device)
    chosen_dtype = options.dtype(dtype)
    wanted = suite.known_rows(options.names(rows))
    plan = options.schedule(suite.SCHEDULE, rounds, quick=quick)
    _set_threads(threads)
    batches = options.batches(batch, quick=quick, usual=suite.BATCHES[device])
    kept = allocator.keep_blocks()
    here = environment.capture()
    rate = limits.gemm_gflops(chosen_dtype)
    tasks = suite.tasks(wanted, batches, chosen_dtype, here, gemm_gflops=rate, allocator=kept, quick=quick)
    path = options.output(output, "kernels", [chosen_dtype], here, quick=quick)
    _finish(tasks, Selection([]), plan, path, tables.ops_table)


@app.command(epilog=_TRAIN_EXAMPLES)
def train(
    models: Models = "",
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
    output: Output = None,
    profile: Annotated[
        bool, typer.Option("--profile", help="Show where the time of effops' step goes, for the first case; no timing.")
    ] = False,
) -> None:
    """Time training steps, and what they hold in memory, against the same networks in plain torch."""
    from .suites import train as suite

    devices.use(device)
    options.positive("--resolution", resolution)
    chosen_dtypes = options.dtypes(dtypes)
    selection = select(registry(TrainingPeer), options.names(peers), compile=compile, quick=quick)
    plan = options.schedule(suite.SCHEDULE, rounds, quick=quick)
    _set_threads(threads)
    here = environment.capture()
    batches = options.batches(batch, quick=quick, usual=suite.BATCHES[quick])
    resolution = resolution or suite.RESOLUTION[quick]
    tasks = suite.tasks(options.names(models) or suite.NAMES, batches, resolution, chosen_dtypes, here)
    if profile:
        profiling.show(_console, tasks[0].label, suite.profiled(tasks[0]))
        return
    path = options.output(output, "train", chosen_dtypes, here, quick=quick)
    _finish(tasks, selection, plan, path, tables.train_table)


app.command(epilog=SPLIT_EXAMPLES)(split)
app.command(epilog=PLOT_EXAMPLES)(plot)
app.command(epilog=REPORT_EXAMPLES)(report)


@app.command("compare")
def compare_command(
    old: Annotated[Path, typer.Argument(help="CSV of the earlier run.")],
    new: Annotated[Path, typer.Argument(help="CSV of the later run.")],
    threshold: Annotated[float, typer.Option(help="Change that counts, as a share.", min=0.0)] = 0.05,
) -> None:
    """Say which problems became slower, faster, or stayed; exit code 1 when effops regressed anywhere."""
    comparisons = compare(record.read(old), record.read(new), threshold)
    table = Table(title=f"effops, {new.name} over {old.name}, drift of the peers taken out")
    for column in ("problem", "batch", "dtype", "provider", "old ms", "new ms", "change", "drift", "verdict"):
        table.add_column(column, justify="right" if column in _NUMBERS else "left")
    for item in comparisons:
        colour = "red" if item.regressed else "dim" if item.verdict == SAME else "green"
        table.add_row(
            item.case,
            str(item.batch),
            item.dtype,
            item.provider,
            f"{item.old_ms:.3g}",
            "" if item.new_ms is None else f"{item.new_ms:.3g}",
            "" if item.change is None else f"{item.change - 1:+.1%}",
            f"{item.drift - 1:+.1%}",
            f"[{colour}]{item.verdict}",
        )
    _console.print(table)
    regressed = sum(item.regressed for item in comparisons)
    _console.print(f"{regressed} of {len(comparisons)} problems regressed", highlight=False)
    raise typer.Exit(1 if regressed else 0)


@app.command("peers")
def peers_command() -> None:
    """List the peers, and say which cannot run here and why."""
    table = Table()
    for column in ("peer", "what it is", "in eval", "in training", "here"):
        table.add_column(column)
    for peer in registry(Peer).values():
        missing = peer.missing()
        serves = ("yes" if isinstance(peer, kind) else "" for kind in (EvalPeer, TrainingPeer))
        table.add_row(peer.name, peer.summary, *serves, f"[yellow]no: {missing}" if missing else "[green]yes")
    _console.print(table)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit: 0 good, 1 effops wrong or regressed, 2 bad arguments or files."""
    try:
        app(args=arguments, prog_name="python -m bench")
    except (BenchError, EffopsError, OSError) as error:
        _errors.print(f"[red]error:[/] {escape(str(error))}", highlight=False, soft_wrap=True)
        raise SystemExit(2) from None
