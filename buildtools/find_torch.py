"""Finds the torch that the extension is built against, without importing it.

The extension uses the LibTorch Stable ABI, so all that a build needs of torch is its headers and one library to link
with. An isolated build (PEP 517) hides the environment's packages; the torch installed there is still the right one to
build against, so it is looked up by path and nothing has to be downloaded.
"""

from __future__ import annotations

import importlib.util
import re
import sysconfig
from dataclasses import dataclass
from pathlib import Path

MINIMUM = (2, 11)
REQUIREMENT = "torch>=2.11"


@dataclass(frozen=True)
class Torch:
    """An installed torch: where it lies, its version, and the CUDA version it is built for, if any."""

    root: Path
    version: str
    cuda: str | None = None

    @property
    def is_recent_enough(self) -> bool:
        return tuple(int(part) for part in re.findall(r"\d+", self.version)[:2]) >= MINIMUM


def _installed(root: Path) -> Torch | None:
    try:
        text = (root / "version.py").read_text()
    except OSError:
        return None
    found = re.search(r"__version__ = '([^']+)'", text)
    cuda = re.search(r"^cuda(?:: [^=]+)? = '([^']+)'", text, re.MULTILINE)
    return Torch(root, found.group(1), cuda.group(1) if cuda else None) if found else None


def find_torch() -> Torch | None:
    """The torch on sys.path, else the one in the environment that this Python belongs to, else None."""
    roots = []
    spec = importlib.util.find_spec("torch")
    if spec is not None and spec.submodule_search_locations:
        roots.append(Path(next(iter(spec.submodule_search_locations))))
    roots += [Path(sysconfig.get_path(name)) / "torch" for name in ("platlib", "purelib")]
    for root in roots:
        if (torch := _installed(root)) is not None:
            return torch
    return None
