"""The resident set of this process, and its peak."""

from __future__ import annotations

import ctypes
import gc
import re
from pathlib import Path

_STATUS = Path("/proc/self/status")
_CLEAR = Path("/proc/self/clear_refs")
# Resets the peak of the resident set: proc_pid_clear_refs(5).
_RESET_PEAK = "5"


def _status_bytes(field: str) -> int:
    found = re.search(rf"^{field}:\s+(\d+) kB$", _STATUS.read_text(encoding="ascii"), re.MULTILINE)
    if found is None:
        raise OSError(f"{_STATUS} has no {field}")
    return int(found[1]) * 1024


def resident_bytes() -> int:
    """The resident set now."""
    return _status_bytes("VmRSS")


def peak_bytes() -> int:
    """The largest resident set since :func:`reset_peak`."""
    return _status_bytes("VmHWM")


def trim() -> None:
    """Give freed memory back, which would otherwise be used again without the resident set growing."""
    gc.collect()
    release = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if release is not None:
        release(0)


def reset_peak() -> None:
    """Let the peak begin at the resident set of now.

    Raises:
        OSError: the system does not let a process do so.
    """
    _CLEAR.write_text(_RESET_PEAK, encoding="ascii")
