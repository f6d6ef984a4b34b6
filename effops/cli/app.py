"""The command's frame: its subcommands, and how it ends."""

from __future__ import annotations

from typing import Annotated

import typer

from effops.cli import catalogue, classify, doctor, export, fuse
from effops.cli.console import print_error
from effops.errors import EffopsError

USER_ERROR = 2

app = typer.Typer(
    name="effops",
    help="MobileNets and EfficientNets, fast in PyTorch.",
    no_args_is_help=True,
    rich_markup_mode="rich",
    # An error that nobody expected keeps Python's own traceback, for the bug report.
    pretty_exceptions_enable=False,
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("doctor", epilog=doctor.EXAMPLES)(doctor.doctor)
app.command("list", epilog=catalogue.LIST_EXAMPLES)(catalogue.list_command)
app.command("info", epilog=catalogue.INFO_EXAMPLES)(catalogue.info_command)
app.command("classify", epilog=classify.EXAMPLES)(classify.classify)
app.command("export", epilog=export.EXAMPLES)(export.export)
app.command("fuse", epilog=fuse.EXAMPLES)(fuse.fuse_command)


def _print_version(wanted: bool) -> None:
    if wanted:
        from effops import __version__

        typer.echo(f"effops {__version__}")
        raise typer.Exit()


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """MobileNets and EfficientNets, fast in PyTorch."""


def main(arguments: list[str] | None = None) -> None:
    """Runs the command with ``arguments`` (default: the process's) and exits.

    Exit codes: 0 done, 2 an error that the user can mend, shown without a traceback.
    """
    try:
        app(args=arguments, prog_name="effops")
    except EffopsError as error:
        print_error(error)
        raise SystemExit(USER_ERROR) from None
