"""What the bench refuses to do, said in one readable line."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class BenchError(ValueError):
    """A wrong argument or file: what came, what was expected, the remedy. The command exits with code 2."""


def unknown(kind: str, name: str, known: Iterable[str], remedy: str) -> BenchError:
    """The error for a name that is not known, with the nearest known names."""
    near = difflib.get_close_matches(name, list(known), n=3)
    hint = f"did you mean {', '.join(near)}? " if near else ""
    return BenchError(f"unknown {kind} {name!r}: {hint}{remedy}")
