"""``python -m bench``."""

from .supervisor import supervise


def _run() -> None:
    supervise()
    # The process that watches needs none of what this imports.
    from .cli import main

    main()


_run()
