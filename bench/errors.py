"""What the bench refuses to do, said in one readable line."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class BenchError(ValueError):
    """A wrong argument or file: what came, what was expected, the remedy. The command exits with code 2."""


def unknown(kind: str, name: str, known: Iterable[str], remedy: str) -> BenchError:
    """The error for a name that is not known, with the nearest known names."""
    close = difflib.get_close_matches(name, set(known), n=20)
    likeness = {other: difflib.SequenceMatcher(None, other, name).ratio() for other in close}
    near = sorted(close, key=lambda other: (-likeness[other], other))[:3]
    hint = f"did you mean {', '.join(near)}? " if near else ""
    return BenchError(f"unknown {kind} {name!r}: {hint}{remedy}")
