"""The commands that a person reads: ``split``, ``plot`` and ``report``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import torch
import typer

from bench import device as devices
from bench import environment, limits, options, plots, record, tables
from bench.errors import BenchError
from bench.progress import case_progress
from bench.record import Row

from .run import console

SPLIT_EXAMPLES = """[bold]Examples[/bold]

Two networks, batch 1; a minute: [cyan]python -m bench split[/cyan]

Others: [cyan]python -m bench split --models tf_efficientnet_lite0,mobilenetv2_100 --batch 1,8[/cyan]

Its figure: [cyan]python -m bench plot bench/results/split-*.csv[/cyan]"""

PLOT_EXAMPLES = """[bold]Examples[/bold]

All figures of the results, beside them: [cyan]python -m bench plot bench/results/*.csv[/cyan]

Those of one run, elsewhere: [cyan]python -m bench plot bench/results/FILE.csv --folder /tmp/figures[/cyan]"""

REPORT_EXAMPLES = """[bold]Examples[/bold]

All results on one page: [cyan]python -m bench report[/cyan]

Those of two runs: [cyan]python -m bench report MODELS.csv TRAIN.csv --output ours.html[/cyan]"""


def split(
    models: Annotated[str, typer.Option(help="Networks, separated by commas. Default: the suite's own.")] = "",
    batch: Annotated[str, typer.Option(help="Batch sizes, separated by commas. Default: 1.")] = "1",
    resolution: Annotated[int | None, typer.Option(help="Side of the images. Default: every network's own.")] = None,
    dtype: Annotated[str, typer.Option(help="fp32 or bf16.")] = "fp32",
    rounds: Annotated[int | None, typer.Option(help="Timed calls, and as many under the profiler.")] = None,
    threads: Annotated[int | None, typer.Option(help="Threads of torch and of effops. Default: torch's own.")] = None,
    quick: Annotated[bool, typer.Option("--quick", help="A smoke test: fewer rounds.")] = False,
    output: Annotated[Path | None, typer.Option(help="CSV to write. Default: a file in bench/results.")] = None,
) -> None:
    """Show where the time of effops' networks goes in eval on a CPU: a kind of kernel a line, with its rates."""
    from bench.suites import models as networks
    from bench.suites import split as suite

    devices.use("cpu")
    options.positive("--resolution", resolution)
    options.positive("--threads", threads)
    chosen_dtype = options.dtype(dtype)
    schedule = options.schedule(suite.SCHEDULE, rounds, quick=quick)
    if threads is not None:
        torch.set_num_threads(threads)
    here = environment.capture()
    names = options.names(models) or suite.NAMES
    chosen = networks.tasks(names, options.batches(batch, quick=quick), resolution, chosen_dtype, here)
    path = options.output(output, "split", [chosen_dtype], here, quick=quick)
    tasks = suite.tasks(chosen, limits.gemm_gflops(chosen_dtype))
    rows: list[Row] = []
    with case_progress(console, len(tasks), schedule.rounds) as progress:
        for task in tasks:
            progress.start_case(task.label)
            rows += task.rows(schedule, progress)
            record.write(rows, path)
            progress.case_done()
    console.print(tables.split_table(rows))
    tables.print_environment(console, rows)
    tables.print_exclusions(console, rows)
    tables.print_noise(console, rows)
    console.print(f"wrote {path}", soft_wrap=True, highlight=False)
    if any(row.status != "ok" for row in rows):
        raise typer.Exit(1)


def plot(
    csv: Annotated[list[Path], typer.Argument(help="CSV files that the suites wrote.")],
    folder: Annotated[Path | None, typer.Option(help="Where the figures go. Default: beside each CSV.")] = None,
) -> None:
    """Draw the figures of CSV files: speed-ups, shares of limits, rooflines, training, latency curves, time splits."""
    for file in csv:
        for path in plots.plot(record.read(file), folder or file.parent):
            console.print(f"wrote {path}", soft_wrap=True, highlight=False)


def report(
    csv: Annotated[
        list[Path] | None, typer.Argument(help="CSV files that the suites wrote. Default: all of bench/results.")
    ] = None,
    output: Annotated[Path, typer.Option(help="HTML file to write.")] = Path("report.html"),
) -> None:
    """Make one HTML page of CSV files: nothing else is needed to read it, on paper, on a phone, in the dark."""
    from bench.report import render

    found = csv or sorted(options.RESULTS.glob("*.csv"))
    if not found:
        raise BenchError(f"there is no CSV in {options.RESULTS}; python -m bench models writes one")
    if output.is_dir():
        raise BenchError(f"--output must be an HTML file; {output} is a folder")
    page = render([(path.stem, record.read(path)) for path in found])
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(page, encoding="utf-8")
    console.print(f"wrote {output} from {len(found)} files", soft_wrap=True, highlight=False)
