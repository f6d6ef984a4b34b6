"""The command line of the bench: ``python -m bench``, from the root of a checkout."""

from __future__ import annotations

from collections.abc import Sequence

import typer
from rich.markup import escape
from rich.table import Table

from effops.errors import EffopsError

from .commands.networks import MODELS_EXAMPLES, SCALING_EXAMPLES, SPLIT_EXAMPLES, models, scaling, split
from .commands.parts import KERNELS_EXAMPLES, OPS_EXAMPLES, OVERHEAD_EXAMPLES, kernels, ops, overhead
from .commands.processes import COLDSTART_EXAMPLES, MEMORY_EXAMPLES, coldstart, memory
from .commands.reading import (
    COMPARE_EXAMPLES,
    GOALS_EXAMPLES,
    PLOT_EXAMPLES,
    REPORT_EXAMPLES,
    compare,
    goals,
    plot,
    report,
)
from .commands.run import console, errors
from .commands.training import TRAIN_EXAMPLES, train
from .errors import BenchError
from .peers import EvalPeer, Peer, TrainingPeer, registry

_EXAMPLES = """[bold]Examples[/bold]

Four networks, batch 1 and 8, all peers: [cyan]python -m bench models[/cyan]

A smoke test of it: [cyan]python -m bench models --quick[/cyan]

One network: [cyan]python -m bench models --models mobilenetv2_100 --batch 1,16 --peers channels_last[/cyan]

One op against the machine's limits: [cyan]python -m bench ops --ops depthwise_conv_act --batch 8[/cyan]

Any network of timm or torchvision: [cyan]python -m bench models --models timm/mnasnet_100[/cyan]

Training steps of two networks: [cyan]python -m bench train[/cyan]

Cliffs over batch sizes and resolutions, calls, cold start and memory: [cyan]python -m bench scaling[/cyan],
[cyan]overhead[/cyan], [cyan]coldstart[/cyan], [cyan]memory[/cyan]

After an interruption: the same command with [cyan]--resume[/cyan]

Where the time of a network goes: [cyan]python -m bench split --models efficientnet_b0[/cyan]

Figures: [cyan]python -m bench plot bench/results/*.csv[/cyan]

One page to read, of all results: [cyan]python -m bench report --output report.html[/cyan]

Which goals does effops reach? [cyan]python -m bench goals[/cyan]

Did effops become slower, or need more memory? [cyan]python -m bench compare OLD.csv NEW.csv[/cyan]"""

app = typer.Typer(
    help="effops against its peers: interleaved, verified, with the environment in every row.",
    epilog=_EXAMPLES,
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

app.command(epilog=MODELS_EXAMPLES)(models)
app.command(epilog=SCALING_EXAMPLES)(scaling)
app.command(epilog=COLDSTART_EXAMPLES)(coldstart)
app.command(epilog=MEMORY_EXAMPLES)(memory)
app.command(epilog=OPS_EXAMPLES)(ops)
app.command(epilog=KERNELS_EXAMPLES)(kernels)
app.command(epilog=OVERHEAD_EXAMPLES)(overhead)
app.command(epilog=TRAIN_EXAMPLES)(train)
app.command(epilog=SPLIT_EXAMPLES)(split)
app.command(epilog=PLOT_EXAMPLES)(plot)
app.command(epilog=REPORT_EXAMPLES)(report)
app.command(epilog=GOALS_EXAMPLES)(goals)
app.command(epilog=COMPARE_EXAMPLES)(compare)


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
    console.print(table)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit: 0 good, 1 effops wrong or regressed, 2 bad arguments or files."""
    try:
        app(args=arguments, prog_name="python -m bench")
    except (BenchError, EffopsError, OSError) as error:
        errors.print(f"[red]error:[/] {escape(str(error))}", highlight=False, soft_wrap=True)
        raise SystemExit(2) from None
