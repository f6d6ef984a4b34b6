"""Interleaved timing: every round runs every provider, in an order that changes, so that drift of the machine
hits all.

A sample is the mean of a few back-to-back calls, after the previous provider's threads have come to rest and after one
untimed call, which pays for the caches that it left cold. Buffers rotate where a suite asks for it, so that an op does
not read its input from cache.
"""

from __future__ import annotations

import gc
import math
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import cycle
from typing import TypeVar

from .idle import until_idle
from .progress import Watcher

T = TypeVar("T")
Call = Callable[[], object]
Clock = Callable[[], float]


class CallFailed(Exception):
    """A provider that was timed raised an error."""

    def __init__(self, name: str, error: Exception):
        super().__init__(f"{name}: {error}")
        self.name = name
        self.error = error


@dataclass(frozen=True)
class Schedule:
    """How much to measure.

    Attributes:
        rounds: samples that every provider gives.
        sample_seconds: a sample repeats the call until it lasts about this long.
        warmup_seconds: every provider runs about this long before its first sample.
        case_seconds: fewer rounds where they would take longer than this together, but no fewer than
            ``fewest``.
        settles: an untimed call comes before every sample. A step of seconds, which reads and writes more
            than any cache holds, does without.
    """

    rounds: int
    sample_seconds: float
    warmup_seconds: float
    case_seconds: float | None = None
    fewest: int = 3
    settles: bool = True

    def rounds_of(self, round_seconds: float) -> int:
        """How many rounds to run when one lasts about so long."""
        if self.case_seconds is None:
            return self.rounds
        fitting = int(self.case_seconds / max(round_seconds, 1e-9))
        return min(self.rounds, max(self.fewest, fitting))


def order_of_round(names: Sequence[T], round_index: int) -> list[T]:
    """The order in which a round visits the providers.

    Every provider takes every place once in ``len(names)`` rounds, and every other turn of as many rounds
    runs backwards, so that no provider always follows the same one.
    """
    shift = round_index % len(names)
    turned = [*names[shift:], *names[:shift]]
    return turned[::-1] if round_index // len(names) % 2 else turned


@dataclass(frozen=True)
class WarmUp:
    """What warming up told: how many calls make one sample, and the seconds of the fastest call."""

    repeats: int
    seconds: float


def warm_up(call: Call, seconds: float, sample_seconds: float, clock: Clock = time.perf_counter) -> WarmUp:
    """Run a provider for a while, and see how many calls make one sample of ``sample_seconds``."""
    fastest = math.inf
    begin = clock()
    while True:
        before = clock()
        call()
        after = clock()
        fastest = min(fastest, after - before)
        if after - begin >= seconds:
            return WarmUp(max(1, math.ceil(sample_seconds / max(fastest, 1e-9))), fastest)


def _sample(call: Call, count: int, settles: bool, clock: Clock) -> float:
    if settles:
        call()
    begin = clock()
    for _ in range(count):
        call()
    return (clock() - begin) / count


@contextmanager
def _turn_of(name: str, watcher: Watcher) -> Iterator[None]:
    watcher.turn_of(name)
    try:
        yield
    except Exception as error:
        raise CallFailed(name, error) from error


@contextmanager
def _collector_paused() -> Iterator[None]:
    """No garbage collection inside: it would land in the sample of an arbitrary provider."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def interleave(
    calls: Mapping[str, Call],
    schedule: Schedule,
    *,
    clock: Clock = time.perf_counter,
    watcher: Watcher | None = None,
    warm: Mapping[str, WarmUp] | None = None,
    rest: Callable[[], object] = until_idle,
) -> dict[str, list[float]]:
    """Seconds a call of every provider, one sample for every round of the schedule, in the order of the rounds.

    Args:
        warm: providers that need no warming up any more.
        rest: called before every sample; returns when nothing is left of the one before.

    Raises:
        CallFailed: a provider raised an error.
    """
    watcher = watcher or Watcher()
    warm = dict(warm or {})
    for name, call in calls.items():
        if name not in warm:
            with _turn_of(name, watcher):
                warm[name] = warm_up(call, schedule.warmup_seconds, schedule.sample_seconds, clock)
    rounds = schedule.rounds_of(sum((warm[name].repeats + schedule.settles) * warm[name].seconds for name in calls))
    watcher.plan(rounds)
    samples: dict[str, list[float]] = {name: [] for name in calls}
    with _collector_paused():
        for index in range(rounds):
            for name in order_of_round(list(calls), index):
                rest()
                with _turn_of(name, watcher):
                    samples[name].append(_sample(calls[name], warm[name].repeats, schedule.settles, clock))
            # Cycles of this round may hold the memory of whole networks.
            gc.collect(0)
            watcher.round_done()
    return samples


class RotatingCall:
    """Calls a function on one set of inputs after the other.

    The last results stay alive, as many as there are input sets, so that the allocator hands out memory that
    has left the cache by then; otherwise every result would be written over the previous one, still in cache.
    """

    def __init__(self, function: Callable[..., object], inputs: Sequence[tuple]):
        self._function = function
        self._inputs = cycle(inputs)
        self._results: deque[object] = deque(maxlen=len(inputs))

    def __call__(self) -> None:
        self._results.append(self._function(*next(self._inputs)))


# More sets of a tiny tensor cost set-up time without reaching past the cache any better.
_MOST_SETS = 512


def sets_past_cache(bytes_per_call: int, cache_bytes: int) -> int:
    """How many buffer sets a rotation needs so that a set has left the cache when its turn comes again."""
    return min(_MOST_SETS, max(2, math.ceil(2 * cache_bytes / max(bytes_per_call, 1))))
