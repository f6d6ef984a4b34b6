"""One HTML page from CSV alone, with everything in it: no script, no font, no picture from elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from bench.appearance import FAMILIES
from bench.errors import BenchError
from bench.record import Row
from bench.runs import Run, current, machine, machine_title, machines
from bench.selection import SUBJECT
from bench.tables import TRAINING_BASELINES, fastest_peer, geometric_mean, grouped

from . import evidence, kernels, networks, processes
from .goals import goals
from .page import Machine, Report, Section, Tile
from .wording import best_of_family, breakable, several, times

_HERE = Path(__file__).parent

# In the order of a reader's questions; a suite that is not here comes after them.
_CHAPTERS: dict[str, Callable[[Sequence[Row]], Section]] = {
    "models": networks.models,
    "train": networks.train,
    "scaling": networks.scaling,
    "split": kernels.split,
    "ops": kernels.ops,
    "kernels": kernels.kernels,
    "coldstart": processes.coldstart,
    "memory": processes.memory,
}


def _line(batch: int, ratios: Sequence[float]) -> tuple[str, str, str]:
    mean = geometric_mean(ratios)
    return f"batch {batch}", times(mean), "good" if mean >= 1 else "bad"


def _eval_tiles(rows: Sequence[Row]) -> list[Tile]:
    tiles = []
    for dtype, chosen in networks.by_dtype([row for row in rows if row.suite == "models"]):
        for family, (name, members) in FAMILIES.items():
            ratios: dict[int, list[float]] = {}
            seen: set[str] = set()
            for found in grouped(chosen).values():
                best, own = best_of_family(found, family), found.get(SUBJECT)
                if best is not None and own is not None and own.p50_ms is not None:
                    ratios.setdefault(own.batch, []).append(best / own.p50_ms)
                    seen |= found.keys() & set(members)
            if not ratios:
                continue
            everything = [ratio for found in ratios.values() for ratio in found]
            best_of = "the fastest of them at every network" if len(seen) > 1 else "one of them was timed"
            note = f"{min(everything):.2f}x to {max(everything):.2f}x; {best_of}"
            tiles.append(
                Tile(f"over {name}, eval {dtype}", [_line(batch, ratios[batch]) for batch in sorted(ratios)], note)
            )
    return tiles


def _training_tiles(rows: Sequence[Row]) -> list[Tile]:
    tiles = []
    for dtype, chosen in networks.by_dtype([row for row in rows if row.suite == "train"]):
        ratios: dict[int, list[float]] = {}
        held: list[float] = []
        for found in grouped(chosen).values():
            best, own, baseline = fastest_peer(found), found.get(SUBJECT), found.get(TRAINING_BASELINES[0])
            if own is None or own.p50_ms is None:
                continue
            if best is not None:
                ratios.setdefault(own.batch, []).append(best.p50_ms / own.p50_ms)
            if own.held_bytes and baseline is not None and baseline.held_bytes:
                held.append(own.held_bytes / baseline.held_bytes)
        if ratios:
            note = "over the fastest peer"
            note += f"; holds {geometric_mean(held):.2f}x of eager's activations" if held else ""
            tiles.append(
                Tile(f"training step, {dtype}", [_line(batch, ratios[batch]) for batch in sorted(ratios)], note)
            )
    return tiles


def _machine_part(rows: Sequence[Row], number: int) -> Machine:
    suites = list(dict.fromkeys(row.suite for row in rows))
    ordered = [name for name in _CHAPTERS if name in suites] + [name for name in suites if name not in _CHAPTERS]
    sections = goals(rows)
    for suite in ordered:
        chosen = [row for row in rows if row.suite == suite]
        make = _CHAPTERS.get(suite)
        sections.append(make(chosen) if make else kernels.anything(suite, chosen))
    here = rows[0].environment
    kernels_of = "without its C++ kernels" if here.isa == "none" else f"on {here.isa} kernels"
    lead = f"effops {here.effops} {kernels_of}, torch {here.torch} on {here.torch_isa}, Python {here.python}."
    tiles = [*_eval_tiles(rows), *_training_tiles(rows)]
    return Machine(f"m{number}", machine_title(rows[0]), lead, tiles, sections, evidence.facts(rows))


def _lead(rows: Sequence[Row], left: int) -> list[str]:
    named = {name for row in rows for name in row.models.split()}
    dates = sorted({row.environment.date[:10] for row in rows})
    when = dates[0] if len(dates) == 1 else f"{dates[0]} to {dates[-1]}"
    dtypes = several(list(dict.fromkeys(row.dtype for row in rows)))
    timed = sum(row.p50_ms is not None for row in rows)
    lead = [
        f"{len(named)} network{'s' if len(named) != 1 else ''} in {dtypes}, {timed} medians, measured {when}.",
        "Every result was compared with float64 before it was timed, and providers took turns, so that drift of the "
        "machine hit all.",
    ]
    if left:
        lead.append(f"{left} older rows of problems that were measured again are left out.")
    return lead


def report(runs: Sequence[Run]) -> Report:
    """The page of some runs, each with the name of its CSV."""
    latest = current(runs)
    rows = [row for _, found in latest for row in found]
    dropped = sum(len(found) for _, found in runs) - len(rows)
    return Report(
        title="effops beside its peers",
        lead=_lead(rows, dropped),
        warning=evidence.warning(latest),
        machines=[
            _machine_part([row for row in rows if machine(row) == one], number)
            for number, one in enumerate(machines(rows))
        ],
        left_out=evidence.left_out(rows),
        noise=evidence.noise(latest),
        outliers=evidence.outliers(rows),
        commands=evidence.commands(latest),
    )


def render(runs: Sequence[Run]) -> str:
    """The HTML of some runs, each with the name of its CSV. The same rows give the same bytes.

    Raises:
        BenchError: jinja2 is not installed, or there are no rows.
    """
    try:
        import jinja2
    except ImportError as error:
        raise BenchError(f"the report needs jinja2 ({error}): pip install -r requirements/bench.txt") from error
    if not any(rows for _, rows in runs):
        raise BenchError("there are no rows to report on; python -m bench models measures some")
    loader = jinja2.FileSystemLoader(_HERE)
    options = {"autoescape": True, "undefined": jinja2.StrictUndefined, "trim_blocks": True, "lstrip_blocks": True}
    environment = jinja2.Environment(loader=loader, **options)
    environment.filters["breakable"] = breakable
    style = (_HERE / "style.css").read_text(encoding="utf-8")
    return environment.get_template("page.html").render(report=report(runs), style=style)
