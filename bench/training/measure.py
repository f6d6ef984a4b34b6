"""One training case, all providers: prepare, verify the first step, and only then time steps, in turns."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass

from bench import device
from bench.measure import CaseResult, Measurement, enter, reason, time_all
from bench.peers import TrainingPeer
from bench.progress import Watcher
from bench.timing import Call, Schedule, WarmUp

from .memory import HeldBytes, StepMemory, peak_growth
from .step import TrainingCase, TrainingStep
from .verify import Errors, Results, allowed_errors, gather, judge, relative_errors

# A first step this long has warmed up what there is to warm.
_LONG_SECONDS = 2.0


@dataclass(frozen=True)
class _First:
    """A provider after its first step."""

    step: TrainingStep
    errors: Errors
    seconds: float
    memory: StepMemory | None


def _first_step(peer: TrainingPeer, case: TrainingCase, exact: Results) -> _First:
    """Make a provider and its first step.

    Memory is measured in this step, but not of a peer that compiles: the compiler's own would be in it, and
    graphs are compiled otherwise where somebody watches what they save.
    """
    begin = time.perf_counter()
    step = peer.prepare_training(case)
    memory = None if peer.compiles else StepMemory()
    held = HeldBytes(step.outside_storages)
    with nullcontext() if memory is None else peak_growth(memory):
        with nullcontext() if memory is None else held.watch():
            loss = step.forward()
        step.backward(loss)
    results = gather(step, loss)
    step.update()
    device.synchronize()
    seconds = time.perf_counter() - begin
    if memory is not None:
        memory.held = held.total
    return _First(step, relative_errors(results, exact), seconds, memory)


def measure_training(
    case: TrainingCase,
    exact: Callable[[], Results],
    peers: Sequence[TrainingPeer],
    yardsticks: Sequence[TrainingPeer],
    schedule: Schedule,
    watcher: Watcher,
) -> CaseResult:
    """Measure a training case.

    Args:
        exact: gives the first step in float64.
        yardsticks: eager PyTorch, whose errors say what others may err; they make a step whether or not they
            are among the peers.
    """
    watcher.announce("float64 step")
    expected = exact()
    firsts: dict[str, _First] = {}
    untimed: dict[str, Measurement] = {}
    for peer in {peer.name: peer for peer in (*yardsticks, *peers)}.values():
        if missing := peer.missing():
            untimed[peer.name] = Measurement(peer.name, "skipped", missing)
            continue
        begin = time.perf_counter()
        try:
            enter(watcher, peer)
            firsts[peer.name] = _first_step(peer, case, expected)
        # A peer may fail in any way that its compiler or library knows; the others go on. Without the yardsticks
        # nobody can be judged.
        except Exception as error:
            if peer in yardsticks:
                raise
            untimed[peer.name] = Measurement(peer.name, "failed", reason(error), time.perf_counter() - begin)
    allowed = allowed_errors([firsts[peer.name].errors for peer in yardsticks], case.dtype)
    calls: dict[str, Call] = {}
    warm: dict[str, WarmUp] = {}
    measurements = []
    for peer in peers:
        first = firsts.pop(peer.name, None)
        if first is None:
            measurements.append(untimed[peer.name])
            continue
        verdict = judge(first.errors, allowed)
        status = "ok" if verdict.right else "wrong"
        found = Measurement(
            peer.name, status, verdict.reason, first.seconds, verdict, memory=first.memory if verdict.right else None
        )
        measurements.append(found)
        if verdict.right:
            calls[peer.name] = first.step
            if not peer.compiles and first.seconds > _LONG_SECONDS:
                warm[peer.name] = WarmUp(1, first.seconds)
    firsts.clear()
    return time_all(measurements, calls, {}, schedule, watcher, warm)
