"""Fails when a source file has grown past the length that one thing needs.

Usage: python scripts/lint_size.py  (from anywhere; exit code 1 lists the files)
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PYTHON = {".py"}
CXX = {".h", ".hpp", ".cpp", ".cu", ".cuh"}
LIMITS = (("effops", PYTHON, 400), ("bench", PYTHON, 400), ("csrc", CXX, 500))


def too_long() -> Iterator[str]:
    """One line for each file over its folder's limit."""
    for folder, suffixes, limit in LIMITS:
        for path in sorted((ROOT / folder).rglob("*")):
            if path.suffix in suffixes:
                lines = len(path.read_text(encoding="utf-8").splitlines())
                if lines > limit:
                    yield f"{path.relative_to(ROOT)}: {lines} lines, the limit is {limit}: split it"


def main() -> int:
    complaints = list(too_long())
    for complaint in complaints:
        print(complaint, file=sys.stderr)
    return 1 if complaints else 0


if __name__ == "__main__":
    sys.exit(main())
