"""What a report is made of; the template knows these things and nothing of the bench."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup


@dataclass(frozen=True)
class Key:
    """An entry of a legend: a mark or a letter, its classes, and what it stands for."""

    text: str
    css: str
    path: str = ""
    letter: str = ""


@dataclass(frozen=True)
class Panel:
    """One chart of a figure."""

    title: str
    svg: Markup


@dataclass(frozen=True)
class Figure:
    """Charts side by side, or one above the other on a phone, with one legend and one caption."""

    title: str
    caption: str
    panels: Sequence[Panel]
    legend: Sequence[Key] = ()


@dataclass(frozen=True)
class Cell:
    """What a table says in one place, and in small letters beneath it."""

    text: str = ""
    small: str = ""
    css: str = ""


@dataclass(frozen=True)
class Table:
    """A table that scrolls inside its box; a long one is folded away. A row of one cell heads those after it.

    Attributes:
        words: how many columns from the left hold words, not numbers.
    """

    title: str
    head: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    words: int = 1
    folded: bool = False


@dataclass(frozen=True)
class Section:
    """A chapter."""

    anchor: str
    title: str
    lead: Sequence[str]
    figures: Sequence[Figure] = ()
    tables: Sequence[Table] = ()


@dataclass(frozen=True)
class Tile:
    """A headline number, what it is, and how far it reaches."""

    title: str
    lines: Sequence[tuple[str, str, str]]
    note: str = ""


@dataclass(frozen=True)
class Machine:
    """All that was measured on one machine."""

    anchor: str
    title: str
    lead: str
    tiles: Sequence[Tile]
    sections: Sequence[Section]
    facts: Sequence[tuple[str, str]] = ()


@dataclass(frozen=True)
class Command:
    """How to make a run again."""

    what: str
    line: str


@dataclass(frozen=True)
class Report:
    """The whole page.

    Attributes:
        outliers: a sentence, and a list after it.
    """

    title: str
    lead: Sequence[str]
    warning: str
    machines: Sequence[Machine]
    left_out: Table | None
    noise: Table
    outliers: tuple[str, Sequence[str]]
    commands: Sequence[Command]
