"""torch's profiler for effops: self times of ops by region, what runs inside an effops op counting for that op."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from torch.autograd.profiler_util import FunctionEvent
from torch.profiler import ProfilerActivity, profile, record_function

OUTSIDE = "outside of ops"
OURS = "effops::"

_PREFIX = "bench::"


@dataclass(frozen=True)
class SelfTime:
    """What one event adds to the op that it counts for.

    Attributes:
        region: the region around it.
        op: the effops op around it, or its own name, or :data:`OUTSIDE` for the region itself.
        shapes: of the tensor arguments of an effops op; empty for others.
        begins: whether it is that op itself, not something inside.
    """

    region: str
    op: str
    shapes: str
    ms: float
    begins: bool


def _counted(event: FunctionEvent) -> tuple[str, FunctionEvent]:
    """The region of an event, and the event that its time counts for: the effops op around it, or itself."""
    counted = event
    while event is not None:
        if event.name.startswith(OURS):
            counted = event
        if event.name.startswith(_PREFIX):
            return event.name.removeprefix(_PREFIX), counted
        event = event.cpu_parent
    return "", counted


def _shapes(event: FunctionEvent) -> str:
    if not event.name.startswith(OURS):
        return ""
    return " ".join("x".join(map(str, shape)) for shape in event.input_shapes if shape)


def profiled(work: Callable[[], object], regions: Sequence[str]) -> Iterator[SelfTime]:
    """Run under the profiler once, and tell the self times of what ran in these regions, marked by :func:`region`."""
    # Kineto tells on stderr that it starts and stops.
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")
    with profile(activities=[ProfilerActivity.CPU], record_shapes=True) as profiler:
        work()
    for event in profiler.events():
        found, counted = _counted(event)
        if found in regions:
            op = OUTSIDE if counted.name.startswith(_PREFIX) else counted.name
            yield SelfTime(found, op, _shapes(counted), event.self_cpu_time_total / 1e3, event is counted)


def region(name: str) -> record_function:
    """A context in which events belong to the region of this name."""
    return record_function(_PREFIX + name)
