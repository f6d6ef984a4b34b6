"""What the subcommands print with: results on stdout, errors and notes on stderr."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.panel import Panel
from rich.table import Table


def output() -> Console:
    """The console of results. Made when it is used, so that a redirected stdout is honoured."""
    return Console(highlight=False)


def print_json(value: Any) -> None:
    """Prints plain JSON, which Rich would wrap at the terminal's width."""
    print(json.dumps(value, indent=2, ensure_ascii=False))


def print_error(error: Exception) -> None:
    """Shows an error that the user can mend."""
    panel = Panel(escape(str(error)), title="Error", title_align="left", border_style="red")
    Console(stderr=True, highlight=False).print(panel)


@contextmanager
def progress() -> Iterator[Callable[[str], None]]:
    """Says on stderr what is being done, where that is a terminal."""
    with Console(stderr=True, highlight=False).status("") as status:
        yield lambda text: status.update(escape(text))


def properties(title: str) -> Table:
    """An empty two-column table of names and values."""
    table = Table(
        title=title,
        title_justify="left",
        title_style="bold",
        show_header=False,
        box=None,
        padding=(0, 2, 0, 0),
    )
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    return table


def records(title: str | None = None) -> Table:
    """An empty table with a header row, its columns added by the caller."""
    return Table(
        title=title,
        title_justify="left",
        title_style="bold",
        header_style="bold",
        box=None,
        padding=(0, 2, 0, 0),
    )


def examples(*commands: str) -> str:
    """The closing part of a subcommand's help: commands to copy, in Rich's markup."""
    return "\n\n".join(["[bold]Examples[/]", *(f"[cyan]{escape(command)}[/]" for command in commands)])


def bar(share: float, console: Console, width: int = 20) -> str:
    """A horizontal bar for a share in [0, 1], as long as ``width`` characters for 1."""
    return ("#" if console.options.ascii_only else "█") * round(share * width)
