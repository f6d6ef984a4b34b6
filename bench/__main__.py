"""``python -m bench``."""

import sys

from .supervisor import Stopped, supervise


def _run() -> None:
    supervise()
    try:
        # The process that watches needs none of what this imports.
        from .cli import main

        main()
    except Stopped as stop:
        print(f"stopped by {stop}", file=sys.stderr)
        raise SystemExit(128 + stop.number) from None


_run()
