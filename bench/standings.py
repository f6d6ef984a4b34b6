"""All goals of effops on CPUs in one table: speed, cold start, memory and cliffs, from whatever runs there are."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from rich.console import Group, RenderableType
from rich.table import Table

from . import cliffs, goals
from .appearance import problem_title
from .noise import NoiseReport
from .record import Row
from .runs import Run, current, machine, machine_title, machines
from .selection import SUBJECT
from .tables import grouped


@dataclass(frozen=True)
class Standing:
    """A goal, and how far effops got.

    Attributes:
        what: the quantity and the dtype.
        goal, found: what effops' ratio to the peer should be, or a point above its trend, and what it is; in words.
        own, peer, other: effops' figure, the provider that it is measured by, and that one's figure; empty for cliffs.
    """

    what: str
    case: str
    goal: str
    found: str
    reached: bool
    own: str = ""
    peer: str = ""
    other: str = ""


def _case(row: Row) -> str:
    return f"{problem_title(row)} batch {row.batch}"


def _times(ratio: float) -> str:
    return f"{ratio:.2f}x" if ratio >= 0.1 else f"{ratio:.2g}x"


def _speeds(rows: Sequence[Row]) -> Iterator[Standing]:
    for verdict in goals.verdicts([row for row in rows if row.suite == "models"]):
        row, peer, share = verdict.subject, verdict.peer, verdict.of_product
        goal, ratio = f"at least {verdict.least:g}x", _times(verdict.ratio)
        if share is not None:
            goal, ratio = f"{goal}, or {verdict.goal.of_product:.0%}", f"{ratio}, {share:.0%}"
        own, other = (f"{one.p50_ms:.3g} ms" for one in (row, peer))
        what = f"speed, {row.dtype}"
        yield Standing(what, _case(row), goal, ratio, verdict.reached, own, peer.provider, other)


# Of what fresh processes measure: the goals, the column, its unit and scale.
_FRESH = {
    "coldstart": ("first result", goals.START_GOALS, "prepare_s", "s", 1.0),
    "memory": ("peak memory", goals.MEMORY_GOALS, "peak_bytes", "MiB", 2.0**-20),
}


def _processes(rows: Sequence[Row], suite: str) -> Iterator[Standing]:
    what, most, column, unit, scale = _FRESH[suite]
    for by_provider in grouped(row for row in rows if row.suite == suite and row.environment.device == "cpu").values():
        for share in goals.shares(by_provider, most, column):
            row, peer = share.subject, share.peer
            own, other = (f"{getattr(one, column) * scale:.3g} {unit}" for one in (row, peer))
            case = _case(row) if row.provider == SUBJECT else f"{_case(row)}, {row.provider}"
            goal, ratio = f"at most {share.most:g}x", _times(share.ratio)
            yield Standing(f"{what}, {row.dtype}", case, goal, ratio, share.reached, own, peer.provider, other)


def _sweeps(rows: Sequence[Row]) -> Iterator[Standing]:
    chosen = [row for row in rows if row.suite == "scaling" and row.environment.device == "cpu"]
    for sweep in cliffs.sweeps([row for row in chosen if row.provider == SUBJECT]):
        worst = max((point for point in sweep.points if point.above is not None), key=lambda point: point.above)
        fixed = f"@{sweep.fixed}" if sweep.axis == "batch" else f" batch {sweep.fixed}"
        case = f"{sweep.network}{fixed}, {sweep.axis} {sweep.points[0].at} to {sweep.points[-1].at}"
        goal, found = f"at most {cliffs.THRESHOLD:+.0%}", f"{worst.above:+.0%} at {worst.at}"
        yield Standing(f"cliffs, {sweep.dtype}", case, goal, found, not worst.cliff)


def standings(rows: Sequence[Row]) -> list[Standing]:
    """Every goal that these rows of one machine have figures for, those of a quantity one after the other."""
    found: list[Standing] = []
    for some in (_speeds(rows), _processes(rows, "memory"), _processes(rows, "coldstart"), _sweeps(rows)):
        found += sorted(some, key=lambda one: (not one.what.endswith("float32"), one.what))
    return found


def _table(found: Sequence[Standing], title: str) -> RenderableType:
    table = Table(title=title)
    for column in ("goal for", "case", "goal", "it is", "effops", "beside", ""):
        table.add_column(column, no_wrap=column == "case")
    before = ""
    for one in found:
        if before and one.what != before:
            table.add_section()
        verdict = "[green]reached" if one.reached else "[red]missed"
        head = one.what if one.what != before else ""
        table.add_row(head, one.case, one.goal, one.found, one.own, f"{one.peer} {one.other}", verdict)
        before = one.what
    return Group(table, f"{sum(one.reached for one in found)} of {len(found)} reached")


def summary(rows: Sequence[Row]) -> RenderableType:
    """A table of the goals that these rows of one machine have figures for; nothing where they have none."""
    found = standings(rows)
    return _table(found, "Goals of effops") if found else Group()


def report(runs: Sequence[Run]) -> RenderableType:
    """A table for every machine, and which runs were noisy."""
    latest = current(runs)
    rows = [row for _, found in latest for row in found]
    parts: list[RenderableType] = []
    for one in machines(rows):
        own = [row for row in rows if machine(row) == one]
        found = standings(own)
        if found:
            parts += [_table(found, f"Goals of effops on {machine_title(own[0])}"), ""]
    if not parts:
        return "these runs have no case with a goal; python -m bench models --goals measures those of speed"
    for name, found in latest:
        noise = NoiseReport.of(found)
        if noise.noisy and standings(found):
            parts.append(f"[bold yellow]{name}[/]: {noise}")
    return Group(*parts)
