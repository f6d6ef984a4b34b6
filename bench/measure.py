"""One case, all providers: prepare, verify, and only then time, in turns."""

from __future__ import annotations

import copy
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from . import device
from .case import Case, Inputs, Provider
from .errors import BenchError
from .noise import ForeignLoad
from .peers import EvalPeer, Peer
from .progress import Watcher
from .statistics import Summary
from .timing import Call, CallFailed, RotatingCall, Schedule, WarmUp, interleave
from .training.memory import StepMemory
from .verify import Outputs, Verdict, allowed_error, judge, relative_error


@dataclass(frozen=True)
class Measurement:
    """What became of a provider: "ok" with times, or "skipped", "failed" or "wrong" with the reason.

    Attributes:
        memory: what a training step holds, where that was measured.
    """

    provider: str
    status: str
    reason: str = ""
    prepare_s: float | None = None
    verdict: Verdict | None = None
    summary: Summary | None = None
    memory: StepMemory | None = None


@dataclass(frozen=True)
class CaseResult:
    """All measurements of a case, the extras timed in the same rounds, how many these were, and what others
    took meanwhile.
    """

    measurements: list[Measurement]
    extras: dict[str, Summary]
    rounds: int
    others: float | None


def _double(value: Tensor | None) -> Tensor | None:
    return None if value is None else value.double()


def _exact(case: Case, inputs: Inputs) -> Outputs:
    return copy.deepcopy(case.module).double()(*(_double(value) for value in inputs))


def reason(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0] if lines else 'no message'}"


def enter(watcher: Watcher, peer: Peer) -> None:
    """Say that a peer is prepared now.

    Raises:
        Died: it ended the process when it did so before.
    """
    watcher.enter(peer.name, "compiling" if peer.compiles else "preparing")


def _prepare(
    peer: EvalPeer, case: Case, exact: Outputs, allowed: float, watcher: Watcher
) -> tuple[Measurement, Provider | None]:
    """Make a provider, call it once and judge what it gives."""
    if why := peer.missing() or peer.unsuited(len(case.inputs[0][0]), case.dtype):
        return Measurement(peer.name, "skipped", why), None
    begin = time.perf_counter()
    try:
        enter(watcher, peer)
        # Users make their models outside of inference mode; tensors made inside have no version counter.
        with torch.inference_mode(False):
            provider = peer.prepare(case)
        outputs = provider.function(*provider.inputs[0])
        device.synchronize()
    # A peer may fail in any way that its compiler or library knows; the row says how, and the others go on.
    except Exception as error:
        return Measurement(peer.name, "failed", reason(error), time.perf_counter() - begin), None
    seconds = time.perf_counter() - begin
    verdict = judge(outputs, exact, allowed)
    if not verdict.right:
        return Measurement(peer.name, "wrong", verdict.reason, seconds, verdict), None
    return Measurement(peer.name, "ok", prepare_s=seconds, verdict=verdict), provider


def time_all(
    measurements: Sequence[Measurement],
    calls: Mapping[str, Call],
    extras: Mapping[str, Call],
    schedule: Schedule,
    watcher: Watcher,
    warm: Mapping[str, WarmUp] | None = None,
) -> CaseResult:
    """Time the providers that were found right, and the extras, in the same rounds; who fails then leaves them."""
    watcher.announce("timing")
    everything = {**calls, **extras}
    failures: dict[str, str] = {}
    while True:
        foreign = ForeignLoad()
        timed = {"clock": device.clock, "watcher": watcher, "warm": warm}
        try:
            samples = interleave(everything, schedule, **timed) if everything else {}
            break
        except CallFailed as failure:
            if failure.name in extras:
                raise
            failures[failure.name] = reason(failure.error)
        # The rounds begin anew: those of the others were not the same without it.
        everything = {name: call for name, call in everything.items() if name not in failures}
    others = foreign.share()
    summaries = {name: Summary.of(values) for name, values in samples.items()}
    return CaseResult(
        [
            replace(found, status="failed", reason=failures[found.provider])
            if found.provider in failures
            else replace(found, summary=summaries.get(found.provider))
            for found in measurements
        ],
        {name: summaries[name] for name in extras},
        max((len(values) for values in samples.values()), default=0),
        others,
    )


@torch.inference_mode()
def measure(
    case: Case,
    peers: Sequence[EvalPeer],
    schedule: Schedule,
    *,
    extras: Mapping[str, Provider] | None = None,
    watcher: Watcher | None = None,
) -> CaseResult:
    """Measure a case.

    Args:
        extras: providers that are timed in the same rounds and not judged.
        watcher: told what happens, for a progress line.

    Raises:
        BenchError: plain torch itself cannot run the case.
    """
    watcher = watcher or Watcher()
    watcher.announce("float64 result")
    try:
        exact = _exact(case, case.inputs[0])
        eager = relative_error(case.module(*case.inputs[0]), exact)
    except Exception as error:
        raise BenchError(f"plain torch fails, so that nobody can be judged: {reason(error)}") from error
    allowed = allowed_error(eager, case.dtype)
    measurements: list[Measurement] = []
    calls: dict[str, Call] = {}
    for peer in peers:
        measurement, provider = _prepare(peer, case, exact, allowed, watcher)
        measurements.append(measurement)
        if provider is not None:
            calls[peer.name] = RotatingCall(provider.function, provider.inputs)
    others = {name: RotatingCall(extra.function, extra.inputs) for name, extra in (extras or {}).items()}
    return time_all(measurements, calls, others, schedule, watcher)
