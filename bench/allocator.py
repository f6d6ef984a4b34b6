"""Where results live. glibc gives every large block back to the kernel when it is freed, and the next call
pays for fresh, zeroed pages: on a 38 MB tensor several times the cost of writing it. That cost is real in a
network, so the models suite leaves it alone; in the ops suite it would drown the kernel, so blocks are kept
there, for every provider.
"""

from __future__ import annotations

import ctypes
import sys

SYSTEM = "system"
KEPT = "blocks kept"

# From malloc.h.
_M_TRIM_THRESHOLD = -1
_M_MMAP_THRESHOLD = -3
_LARGEST = 2**31 - 1


def keep_blocks() -> str:
    """Make malloc keep freed blocks in this process; returns what the rows have to say about it."""
    if not sys.platform.startswith("linux"):
        return SYSTEM
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except AttributeError:
        return SYSTEM
    kept = mallopt(_M_MMAP_THRESHOLD, 2**30) and mallopt(_M_TRIM_THRESHOLD, _LARGEST)
    return KEPT if kept else SYSTEM
