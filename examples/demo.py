"""Classifies real photographs with two published checkpoints on fused kernels. Run it with ``make demo``."""

from __future__ import annotations

import os
import shlex
import sys
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from samples import LITE0, MOBILENET_V2, SampleError, imagenet_photo, photo

from effops.cli import main as effops


def shown(path: str | Path) -> str:
    """A path as the command lines below show it: short, and good to copy."""
    return os.path.relpath(path) if Path(path).is_relative_to(Path.cwd()) else str(path)


def main() -> int:
    """Runs ``effops classify`` for each checkpoint; the exit code is that of the first run that fails."""
    console = Console(highlight=False)
    try:
        photos = [photo("coffee.png"), photo("chelsea.png"), imagenet_photo(16, 251)]
        runs = [(checkpoint.model, checkpoint.path()) for checkpoint in (LITE0, MOBILENET_V2)]
    except SampleError as error:
        print(f"demo: {error}", file=sys.stderr)
        return 2
    for model, checkpoint in runs:
        images = [shown(path) for path in photos]
        arguments = ["classify", *images, "--model", model, "--checkpoint", shown(checkpoint), "--compare"]
        console.rule(f"[bold]{model}[/]", align="left")
        console.print(f"[dim]$ effops {escape(shlex.join(arguments))}[/]", soft_wrap=True)
        console.print()
        try:
            effops(arguments)
        except SystemExit as end:
            if end.code:
                return int(end.code)
        console.print()
    console.print(f"Yours: [cyan]{escape(shown(sys.prefix))}/bin/effops classify PHOTO... --model NAME[/]")
    return 0


if __name__ == "__main__":
    sys.exit(main())
