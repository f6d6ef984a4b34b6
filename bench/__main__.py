"""``python -m bench``."""

import sys

from .supervisor import Stopped, supervise


def _run() -> None:
    supervise()
    try:
        # The process that watches needs none of what this imports.
        try:
            from .cli import main
        except ModuleNotFoundError as error:
            print(f"error: the bench needs {error.name}, which is not installed; make setup does", file=sys.stderr)
            raise SystemExit(2) from None
        main()
    except Stopped as stop:
        print(f"stopped by {stop}", file=sys.stderr)
        raise SystemExit(128 + stop.number) from None


_run()
