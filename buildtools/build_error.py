"""How a build says that it cannot succeed."""

from __future__ import annotations


class BuildError(SystemExit):
    """A build that cannot succeed, in one readable message."""

    def __init__(self, problem: str, remedy: str) -> None:
        super().__init__(f"\neffops cannot be built: {problem}\n  Remedy: {remedy}\n")
