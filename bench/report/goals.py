"""The chapter on what effops means to reach, whatever suite measured it."""

from __future__ import annotations

from collections.abc import Sequence

from bench.appearance import title
from bench.record import Row
from bench.standings import standings

from .page import Cell, Section, Table


def goals(rows: Sequence[Row]) -> list[Section]:
    """One chapter of all suites' rows; none where no case has a goal."""
    found = standings(rows)
    body: list[list[Cell]] = []
    before = ""
    for one in found:
        if one.what != before:
            body.append([Cell(one.what)])
        verdict = ("reached", "good") if one.reached else ("missed", "bad")
        peer = Cell(one.other, title(one.peer)) if one.peer else Cell("-")
        body.append(
            [Cell(one.case), Cell(one.goal, css="short"), Cell(one.found, *verdict), Cell(one.own or "-"), peer]
        )
        before = one.what
    if not body:
        return []
    lead = [
        f"{sum(one.reached for one in found)} of {len(found)} reached. Speed is beside the fastest peer at every "
        "network or, where that is named, a share of the rate of a matrix product; memory and starts are beside the "
        "peer named there; a cliff is a point above the trend of its neighbours."
    ]
    head = ["case", "goal", "it is", "effops", "the peer"]
    return [
        Section("goals", "Goals of effops", lead, [], [Table("Goals, and how far effops got", head, body, words=2)])
    ]
