"""``plot``, ``report``, ``goals`` and ``compare``: what is made of CSV files."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from bench import comparison, options, plots, record, standings
from bench.errors import BenchError

from .run import console

PLOT_EXAMPLES = """[bold]Examples[/bold]

All figures of the results, beside them: [cyan]python -m bench plot bench/results/*.csv[/cyan]

Those of one run, elsewhere: [cyan]python -m bench plot bench/results/FILE.csv --folder /tmp/figures[/cyan]"""

REPORT_EXAMPLES = """[bold]Examples[/bold]

All results on one page: [cyan]python -m bench report[/cyan]

Those of two runs: [cyan]python -m bench report MODELS.csv TRAIN.csv --output ours.html[/cyan]"""

GOALS_EXAMPLES = """[bold]Examples[/bold]

Of all results: [cyan]python -m bench goals[/cyan]

Of runs on this machine: [cyan]python -m bench goals MODELS.csv MEMORY.csv[/cyan]

What measures them: [cyan]python -m bench models --goals[/cyan], the same with [cyan]--dtype bf16[/cyan],
[cyan]memory[/cyan], [cyan]coldstart[/cyan], [cyan]scaling[/cyan]"""

COMPARE_EXAMPLES = """[bold]Examples[/bold]

Two runs of one machine: [cyan]python -m bench compare OLD.csv NEW.csv[/cyan]

Smaller changes count: [cyan]python -m bench compare OLD.csv NEW.csv --threshold 0.02[/cyan]"""

_NUMBERS = ("batch", "old", "new", "change", "drift")


def plot(
    csv: Annotated[list[Path], typer.Argument(help="CSV files that the suites wrote.")],
    folder: Annotated[Path | None, typer.Option(help="Where the figures go. Default: beside each CSV.")] = None,
) -> None:
    """Draw the figures of CSV files: speed-ups, shares of limits, rooflines, training, latency curves, time splits."""
    if folder is not None:
        options.writable("--folder", folder)
    runs = [(folder or file.parent, record.read(file)) for file in csv]
    for where, rows in runs:
        beside = [row for other, found in runs if other == where for row in found]
        for path in plots.plot(rows, where, beside):
            console.print(f"wrote {path}", soft_wrap=True, highlight=False)


_AllOfThem = Annotated[
    list[Path] | None, typer.Argument(help="CSV files that the suites wrote. Default: all of bench/results.")
]


def _runs(csv: list[Path] | None) -> list[tuple[str, list[record.Row]]]:
    found = csv or sorted(options.RESULTS.glob("*.csv"))
    if not found:
        raise BenchError(f"there is no CSV in {options.RESULTS}; python -m bench models writes one")
    return [(path.stem, record.read(path)) for path in found]


def report(
    csv: _AllOfThem = None,
    output: Annotated[Path, typer.Option(help="HTML file to write.")] = Path("report.html"),
) -> None:
    """Make one HTML page of CSV files: nothing else is needed to read it, on paper, on a phone, in the dark."""
    from bench.report import render

    runs = _runs(csv)
    if output.is_dir():
        raise BenchError(f"--output must be an HTML file; {output} is a folder")
    page = render(runs)
    options.writable("--output", output.parent)
    output.write_text(page, encoding="utf-8")
    console.print(f"wrote {output} from {len(runs)} files", soft_wrap=True, highlight=False)


def goals(csv: _AllOfThem = None) -> None:
    """Say which goals of effops on CPUs the runs reach: speed, peak memory, cold start and cliffs."""
    console.print(standings.report(_runs(csv)), highlight=False)


def compare(
    old: Annotated[Path, typer.Argument(help="CSV of the earlier run.")],
    new: Annotated[Path, typer.Argument(help="CSV of the later run.")],
    threshold: Annotated[float, typer.Option(help="Change that counts, as a share.", min=0.0)] = 0.05,
) -> None:
    """Say where effops became slower or faster, or needs more memory or less; exit code 1 when it is worse anywhere."""
    found = comparison.compare(record.read(old), record.read(new), threshold)
    table = Table(title=f"effops, {new.name} over {old.name}, drift of the peers' times taken out")
    for column in ("problem", "batch", "dtype", "provider", "what", "old", "new", "change", "drift", "verdict"):
        table.add_column(column, justify="right" if column in _NUMBERS else "left")
    for item in found.comparisons:
        colour = "red" if item.regressed else "dim" if item.verdict == comparison.SAME else "green"
        table.add_row(
            item.case,
            str(item.batch),
            item.dtype,
            item.provider,
            item.quantity.name,
            item.quantity.shown(item.old),
            "" if item.new is None else item.quantity.shown(item.new),
            "" if item.change is None else f"{item.change - 1:+.1%}",
            f"{item.drift - 1:+.1%}" if item.quantity.drifts else "",
            f"[{colour}]{item.verdict}",
        )
    console.print(table)
    if found.missing:
        console.print(f"not in {new.name}: {'; '.join(found.missing)}", soft_wrap=True, highlight=False)
    console.print(f"{len(found.regressed)} of {len(found.comparisons)} problems regressed", highlight=False)
    raise typer.Exit(1 if found.regressed else 0)
