"""The ``effops`` command: the one place that imports Typer and Rich."""

from effops.cli.app import main

__all__ = ["main"]
