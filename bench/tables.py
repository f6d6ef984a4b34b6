"""What a run looks like on a terminal."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from .appearance import kind_title
from .noise import NoiseReport
from .record import Row
from .selection import SUBJECT, is_subject
from .splits import splits

_WIDTH_OF_FILES = 240

# What a training step is compared with: the times of both, the memory of the first.
TRAINING_BASELINES = ("channels_last", "compile")


def console() -> Console:
    """A console that keeps tables whole in files and pipes, whose width nobody knows."""
    found = Console()
    return found if found.is_terminal else Console(width=_WIDTH_OF_FILES)


def grouped(rows: Iterable[Row]) -> dict[tuple, dict[str, Row]]:
    """Rows by problem, and there by provider."""
    problems: dict[tuple, dict[str, Row]] = {}
    for row in rows:
        problems.setdefault(row.key, {})[row.provider] = row
    return problems


def providers(rows: Iterable[Row]) -> list[str]:
    """Providers in order of appearance, effops first."""
    names = list(dict.fromkeys(row.provider for row in rows))
    return sorted(names, key=lambda name: name != SUBJECT)


def speedup(by_provider: dict[str, Row], peer: str) -> float | None:
    """How many times faster effops is than a peer, or None when one of them has no time."""
    subject, other = by_provider.get(SUBJECT), by_provider.get(peer)
    if subject is None or other is None or subject.p50_ms is None or other.p50_ms is None:
        return None
    return other.p50_ms / subject.p50_ms


def fastest_peer(by_provider: dict[str, Row]) -> Row | None:
    """The fastest peer at a problem, or None when none was timed."""
    timed = [row for name, row in by_provider.items() if not is_subject(name) and row.p50_ms is not None]
    return min(timed, key=lambda row: row.p50_ms, default=None)


def geometric_mean(values: Sequence[float]) -> float:
    """The mean that fits ratios: that of a and 1/a is 1."""
    return math.exp(sum(math.log(value) for value in values) / len(values))


def _short(value: float) -> str:
    return f"{value:.3g}" if value < 100 else f"{value:.0f}"


def _times(row: Row | None, per_ms: float = 1.0) -> str:
    """A row's time and its spread, in a unit of which so many make a millisecond."""
    if row is None:
        return ""
    if row.p50_ms is None:
        colour = "red" if row.status in ("wrong", "failed") else "dim"
        return f"[{colour}]{row.status}"
    p20, p50, p80 = (_short(value * per_ms) for value in (row.p20_ms, row.p50_ms, row.p80_ms))
    return f"{p50} [dim]{p20}-{p80}"


def _ratio(ratio: float | None) -> str:
    if ratio is None:
        return ""
    return f"[{'green' if ratio > 1 else 'red'}]{ratio:.2f}x"


def models_table(rows: Sequence[Row]) -> Table:
    """Milliseconds of every provider, how many times faster effops is than each peer, and effops' arithmetic rate
    beside that of a matrix product in the same rounds."""
    title = "Whole networks in eval: ms p50 p20-p80, effops' speed-up over each peer, GFLOP/s of effops"
    return _speedups(rows, title, 1.0, rates=True)


def overhead_table(rows: Sequence[Row]) -> Table:
    """Microseconds of every provider, and how many times faster effops is than each peer."""
    return _speedups(rows, "Calls on tiny maps: µs p50 p20-p80, and effops' speed-up over each peer", 1e3)


def _speedups(rows: Sequence[Row], title: str, per_ms: float, *, rates: bool = False) -> Table:
    # Who was skipped everywhere is said below the table, once.
    names = providers(row for row in rows if row.status != "skipped")
    peers = [name for name in names if name != SUBJECT]
    table = Table(title=title)
    table.add_column("case", no_wrap=True)
    table.add_column("batch", justify="right")
    table.add_column(SUBJECT, justify="right")
    for peer in peers:
        table.add_column(f"{peer}\nspeed-up", justify="right")
    if rates:
        table.add_column("GFLOP/s", justify="right")
        table.add_column("of product", justify="right")
    ratios: dict[str, list[float]] = {peer: [] for peer in peers}
    for by_provider in grouped(rows).values():
        row = next(iter(by_provider.values()))
        size = f"@{row.resolution}" if row.resolution else ""
        cells = [f"{row.case}{size} {row.dtype}", str(row.batch), _times(by_provider.get(SUBJECT), per_ms)]
        for peer in peers:
            ratio = speedup(by_provider, peer)
            cells.append(f"{_times(by_provider.get(peer), per_ms)}\n{_ratio(ratio)}".strip())
            if ratio is not None:
                ratios[peer].append(ratio)
        if rates:
            cells += _arithmetic(by_provider.get(SUBJECT))
        table.add_row(*cells)
    if any(ratios.values()):
        table.add_section()
        means = [geometric_mean(ratios[peer]) if ratios[peer] else None for peer in peers]
        table.add_row("geometric mean", "", "", *map(_ratio, means))
    return table


def ops_table(rows: Sequence[Row]) -> Table:
    """effops' time, rates and share of the limit for every op, and its speed-up over each peer."""
    names = providers(rows)
    peers = [name for name in names if name != SUBJECT]
    table = Table(title="Ops: ms p50 p20-p80, rates over the least bytes and work, share of the binding limit")
    for column in ("op", "batch", SUBJECT, "GB/s", "copy", "GFLOP/s", "limit", "share"):
        justify = "left" if column in ("op", "limit") else "right"
        table.add_column(column, justify=justify, no_wrap=column == "op")
    for peer in peers:
        table.add_column(f"vs {peer}", justify="right")
    for by_provider in grouped(rows).values():
        row = by_provider.get(SUBJECT) or next(iter(by_provider.values()))
        timed = row.p50_ms is not None and row.provider == SUBJECT
        table.add_row(
            row.case,
            str(row.batch),
            _times(by_provider.get(SUBJECT)),
            f"{row.gbps:.1f}" if timed else "",
            f"{row.copy_gbps:.1f}",
            f"{row.gflops:.0f}" if timed else "",
            row.limit,
            f"{row.share_of_limit:.0%}" if timed else "",
            *(_ratio(speedup(by_provider, peer)) for peer in peers),
        )
    return table


def best_eager_or_compiled(by_provider: dict[str, Row]) -> float | None:
    """Milliseconds of the faster of eager in channels_last and torch.compile, or None when neither has a time."""
    times = [by_provider[name].p50_ms for name in TRAINING_BASELINES if name in by_provider]
    return min((time for time in times if time is not None), default=None)


def _mebibytes(value: int | None) -> str:
    return "" if value is None else f"{value / 2**20:.0f}"


def _share(value: int | None, of: int | None) -> str:
    return f"{value / of:.2f}x" if value and of else ""


def train_table(rows: Sequence[Row]) -> Table:
    """Time, memory and error of every provider's training step."""
    table = Table(
        title="Training steps: ms p50 p20-p80; how many times faster than the better of channels_last and compile; "
        "MiB of activations held, beside channels_last; MiB of growth at the peak; error, and what is allowed"
    )
    table.add_column("network", no_wrap=True)
    table.add_column("batch", justify="right")
    table.add_column("provider", no_wrap=True)
    for column in ("ms", "speed-up", "held", "ratio", "peak", "error", "allowed"):
        table.add_column(column, justify="right")
    for by_provider in grouped(rows).values():
        best = best_eager_or_compiled(by_provider)
        baseline = by_provider.get(TRAINING_BASELINES[0])
        for place, name in enumerate(providers(by_provider.values())):
            row = by_provider[name]
            ratio = best / row.p50_ms if best and row.p50_ms else None
            table.add_row(
                f"{row.case}@{row.resolution} {row.dtype}" if place == 0 else "",
                str(row.batch) if place == 0 else "",
                f"[bold]{name}" if is_subject(name) else name,
                _times(row),
                _ratio(ratio) if is_subject(name) else "" if ratio is None else f"[dim]{ratio:.2f}x",
                _mebibytes(row.held_bytes),
                _share(row.held_bytes, baseline and baseline.held_bytes),
                _mebibytes(row.peak_bytes),
                "" if row.error is None else f"{row.error:.1e}",
                "" if row.allowed_error is None else f"{row.allowed_error:.1e}",
            )
        table.add_section()
    return table


def _arithmetic(row: Row | None) -> tuple[str, str]:
    """GFLOP/s, and its part of the matrix product's."""
    if row is None or not row.gflops or not row.gemm_gflops:
        return "", ""
    return f"{row.gflops:.0f}", f"{row.gflops / row.gemm_gflops:.0%}"


def split_table(rows: Sequence[Row]) -> Table:
    """The time of every network by kind of kernel, with the rates that each kind reaches."""
    table = Table(title="Where the time of a network goes: ms p50 p20-p80, rates over the least bytes and work")
    table.add_column("network", no_wrap=True)
    table.add_column("kind")
    for column in ("ms", "share", "GFLOP/s", "of matrix product", "GB/s", "of copy"):
        table.add_column(column, justify="right")
    for found in splits(rows):
        table.add_row(f"[bold]{found.title}", found.whole.dtype, _times(found.whole), "100%")
        for kind, row in found.parts.items():
            table.add_row("", kind_title(kind), _times(row), f"{found.share(kind):.1%}", *_rates(row))
        table.add_section()
    return table


def _rates(row: Row) -> tuple[str, ...]:
    """GFLOP/s and GB/s, each with its part of what the machine can do; nothing where no work is known."""
    if not row.bytes:
        return ()
    return *_arithmetic(row), f"{row.gbps:.1f}", f"{row.gbps / row.copy_gbps:.0%}"


def print_environment(console: Console, rows: Sequence[Row]) -> None:
    """The machine and the software, in two lines."""
    here = rows[0].environment
    gpu = "" if here.device == "cpu" else f"{here.device}; "
    console.print(
        f"{gpu}{here.cpu}, effops kernels on {here.isa}, torch on {here.torch_isa}; {here.threads} threads on "
        f"processors {here.affinity}; last-level cache {here.last_level_cache_bytes / 2**20:.0f} MiB\n"
        f"effops {here.effops} {here.git_sha} on its {here.backend} backend, torch {here.torch}, "
        f"Python {here.python}, {here.system}, {here.date}",
        highlight=False,
    )
    if here.isa == "none":
        console.print("[bold yellow]effops ran without its C++ kernels[/]: effops doctor says why", highlight=False)


def print_exclusions(console: Console, rows: Sequence[Row]) -> None:
    """Who was not timed, and why; a reason that many cases share is said once."""
    reasons: dict[tuple[str, str, str], list[str]] = {}
    several = len({row.dtype for row in rows}) > 1
    for row in rows:
        if row.status != "ok":
            case = f"{row.case} batch {row.batch}{f' {row.dtype}' if several else ''}"
            reasons.setdefault((row.provider, row.status, row.reason), []).append(case)
    for (provider, status, reason), cases in reasons.items():
        where = "everywhere" if len(cases) == len(grouped(rows)) else ", ".join(cases)
        colour = "red" if status in ("wrong", "failed") else "yellow"
        verdict = "disqualified, its result is wrong" if status == "wrong" else status
        console.print(f"[{colour}]{provider} {verdict}[/] ({where}): {escape(reason)}", highlight=False)


def print_noise(console: Console, rows: Sequence[Row]) -> None:
    """Whether the numbers can be trusted."""
    report = NoiseReport.of(rows)
    console.print(f"[{'bold yellow' if report.noisy else 'green'}]{report}", highlight=False)
