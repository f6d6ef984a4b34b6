"""Files that are there whole or not at all."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from effops.errors import ArgumentError


def checked(path: str | os.PathLike[str], suffix: str) -> Path:
    """The path of a file that can be written.

    Raises:
        ArgumentError: another suffix, a directory, or a folder that is not there.
    """
    target = Path(path)
    if target.suffix != suffix:
        raise ArgumentError(f"path must end in {suffix}; got {str(path)!r}")
    if target.is_dir() or not target.parent.is_dir():
        reason = "is a directory" if target.is_dir() else f"is in a folder that does not exist: {str(target.parent)!r}"
        raise ArgumentError(f"path {str(path)!r} {reason}; give the path of a file to write")
    return target


@contextmanager
def written(target: Path) -> Iterator[str]:
    """A temporary path beside ``target``, which takes its name when the block ends without an error."""
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{target.stem}-") as folder:
        temporary = Path(folder) / target.name
        yield str(temporary)
        # Weights of large models lie in a second file, which the first one names.
        for made in sorted(Path(folder).iterdir(), key=lambda made: made == temporary):
            os.replace(made, target.parent / made.name)
