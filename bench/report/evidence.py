"""What makes the numbers believable: who was left out and why, how noisy it was, and how to measure again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields

from bench import goals
from bench.appearance import problem_title, title
from bench.environment import Environment
from bench.noise import NOISY_SPREAD, NoiseReport
from bench.options import DTYPES
from bench.record import Row
from bench.runs import Run
from bench.tables import grouped

from .page import Cell, Command, Table
from .wording import several

_MOST_OUTLIERS, _MOST_CASES = 10, 6
_FACTS = {
    "effops": "effops",
    "git_sha": "commit",
    "backend": "backend of effops",
    "torch": "torch",
    "packages": "peers",
    "python": "Python",
    "system": "system",
    "cpu": "processor",
    "device": "device",
    "isa": "instructions of effops' kernels",
    "torch_isa": "instructions of torch's kernels",
    "threads": "threads",
    "affinity": "processors allowed",
    "last_level_cache_bytes": "last-level cache",
    "date": "dates",
}


def _fact(name: str, value: object) -> str:
    if name == "last_level_cache_bytes":
        return f"{value / 2**20:.0f} MiB"
    return str(value)[:10] if name == "date" else str(value)


def facts(rows: Sequence[Row]) -> list[tuple[str, str]]:
    """The environment, every value that occurs."""
    known = [field.name for field in fields(Environment)]
    found = []
    for name in sorted(known, key=lambda name: list(_FACTS).index(name) if name in _FACTS else len(_FACTS)):
        values = sorted({_fact(name, getattr(row.environment, name)) for row in rows} - {""})
        if values:
            found.append((_FACTS.get(name, name), several(values)))
    return found


def left_out(rows: Sequence[Row]) -> Table | None:
    """Who was not timed, and why; a reason that many cases share stands once. None when everybody was."""
    reasons: dict[tuple[str, str, str, str, str], list[str]] = {}
    for row in rows:
        if row.status != "ok":
            key = row.provider, row.status, row.suite, row.dtype, row.reason
            reasons.setdefault(key, []).append(f"{problem_title(row)}, batch {row.batch}")
    body = []
    for (provider, status, suite, dtype, reason), cases in reasons.items():
        everywhere = len(cases) == len(grouped([row for row in rows if (row.suite, row.dtype) == (suite, dtype)]))
        where = "all cases" if everywhere else "; ".join(cases[:_MOST_CASES])
        where += f"; and {len(cases) - _MOST_CASES} more" if not everywhere and len(cases) > _MOST_CASES else ""
        verdict = "disqualified: its result is wrong" if status == "wrong" else status
        css = "bad" if status in ("wrong", "failed") else ""
        body.append(
            [
                Cell(title(provider)),
                Cell(f"{suite} {dtype}", css="short"),
                Cell(verdict, css=f"short {css}".strip()),
                Cell(reason),
                Cell(where),
            ]
        )
    head = ["provider", "suite", "what happened", "why", "where"]
    return Table("Providers without a time", head, body, words=5) if body else None


def noise(runs: Sequence[Run]) -> Table:
    """How quiet the machine was in every run."""
    body = []
    for name, rows in runs:
        report = NoiseReport.of(rows)
        counts = sorted({row.rounds for row in rows if row.rounds is not None})
        body.append(
            [
                Cell(name),
                Cell(several(sorted({row.environment.date[:10] for row in rows}))),
                Cell("noisy" if report.noisy else "quiet", css="bad" if report.noisy else "good"),
                Cell(f"{report.spread:.1%}"),
                Cell("unknown" if report.others is None else f"{report.others:.0%}"),
                Cell("-" if not counts else f"{counts[0]}" if len(counts) == 1 else f"{counts[0]}-{counts[-1]}"),
            ]
        )
    head = ["run", "date", "machine", "typical (p80-p20)/p50", "processors taken by others, at most", "rounds"]
    return Table("Noise of every run", head, body, words=3)


def warning(runs: Sequence[Run]) -> str:
    """What a reader must know before the first number; empty when every run was quiet."""
    noisy = [name for name, rows in runs if NoiseReport.of(rows).noisy]
    if not noisy:
        return ""
    return f"The machine was noisy in {several(noisy)}: take no ratios from what these runs measured."


def outliers(rows: Sequence[Row]) -> tuple[str, list[str]]:
    """How many medians have a wide spread, and the widest."""
    spread = lambda row: (row.p80_ms - row.p20_ms) / row.p50_ms  # noqa: E731
    wide = [row for row in rows if row.p50_ms and spread(row) > NOISY_SPREAD]
    if not wide:
        return f"No median has p20-p80 wider than {NOISY_SPREAD:.0%} of itself.", []
    timed = sum(row.p50_ms is not None for row in rows)
    intro = f"{len(wide)} of {timed} medians have p20-p80 wider than {NOISY_SPREAD:.0%} of themselves; the widest:"
    notes = []
    for row in sorted(wide, key=spread, reverse=True)[:_MOST_OUTLIERS]:
        case = f"{row.suite}, {problem_title(row)}, batch {row.batch}, {row.dtype}"
        notes.append(f"{case}, {title(row.provider)}: {spread(row):.0%}")
    return intro, notes


def _values(option: str, values: Sequence[object]) -> str:
    return f" {option} {','.join(map(str, values))}" if values else ""


def command(rows: Sequence[Row]) -> str:
    """The command that measures a run's cases again."""
    first = rows[0]
    short = {str(dtype).removeprefix("torch."): name for name, dtype in DTYPES.items()}
    dtypes = [short.get(name, name) for name in dict.fromkeys(row.dtype for row in rows)]
    networks = list(dict.fromkeys(name for row in rows for name in row.models.split()))
    batches: Sequence[int] = sorted({row.batch for row in rows})
    line = f"python -m bench {first.suite}"
    cases = {(row.case, row.batch, row.resolution) for row in rows}
    if first.suite == "models" and cases == {*goals.cases(first.dtype)}:
        line, networks, batches = f"{line} --goals", (), ()
    if first.suite == "ops":
        line += _values("--ops", list(dict.fromkeys(row.op for row in rows)))
    if first.suite == "kernels":
        line += _values("--rows", list(dict.fromkeys(row.op for row in rows)))
    else:
        line += _values("--models", networks)
    if first.suite == "scaling":
        line += _values("--resolutions", sorted({row.resolution for row in rows if row.batch == 1}))
    line += _values("--batch", batches) + _values("--dtypes" if first.suite == "train" else "--dtype", dtypes)
    if any(row.reason.startswith("--no-compile") for row in rows):
        line += " --no-compile"
    on_cpu = first.environment.device == "cpu"
    return line + (f" --threads {first.environment.threads}" if on_cpu else " --device cuda")


def commands(runs: Sequence[Run]) -> list[Command]:
    """How to measure every run again, and make this page."""
    found = []
    for name, rows in runs:
        here = rows[0].environment
        sha = here.git_sha.removesuffix("+")
        state = " with changes that were not committed" if here.git_sha.endswith("+") else ""
        found.append(Command(f"{name}{f', commit {sha}{state}' if sha else ''}", command(rows)))
    return [*found, Command("this page, from CSV files", "python -m bench report --output report.html")]
