"""Waiting until threads rest.

Pools of threads go on looking for work after a call, ONNX Runtime's for tens of milliseconds; on few processors they
would take them from the provider that is timed next.
"""

from __future__ import annotations

import time
from collections.abc import Callable

_LOOK_SECONDS = 0.004
_IDLE_SHARE = 0.1
_LIMIT_SECONDS = 0.5


def until_idle(
    clock: Callable[[], float] = time.perf_counter,
    used: Callable[[], float] = time.process_time,
    sleep: Callable[[float], None] = time.sleep,
) -> bool:
    """Sleep until the threads of this process take less than a tenth of a processor; False when they never rest.

    Args:
        used: processor seconds of all threads together.
    """
    end = clock() + _LIMIT_SECONDS
    while clock() < end:
        begin, before = clock(), used()
        sleep(_LOOK_SECONDS)
        if used() - before < _IDLE_SHARE * (clock() - begin):
            return True
    return False
