"""One case, all providers: prepare, verify, and only then time, in turns."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from .case import Case, Inputs, Provider
from .noise import ForeignLoad
from .peers import Peer
from .statistics import Summary
from .timing import RotatingCall, Schedule, interleave
from .verify import Outputs, Verdict, allowed_error, judge, relative_error

Announce = Callable[[str], None]


@dataclass(frozen=True)
class Measurement:
    """What became of a provider: "ok" with times, or "skipped", "failed" or "wrong" with the reason."""

    provider: str
    status: str
    reason: str = ""
    prepare_s: float | None = None
    verdict: Verdict | None = None
    summary: Summary | None = None


@dataclass(frozen=True)
class CaseResult:
    """All measurements of a case, the extras timed in the same rounds, and what others took meanwhile."""

    measurements: list[Measurement]
    extras: dict[str, Summary]
    others: float | None


def _double(value: Tensor | None) -> Tensor | None:
    return None if value is None else value.double()


def _exact(case: Case, inputs: Inputs) -> Outputs:
    return copy.deepcopy(case.module).double()(*(_double(value) for value in inputs))


def _reason(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0] if lines else 'no message'}"


def _prepare(peer: Peer, case: Case, exact: Outputs, allowed: float) -> tuple[Measurement, Provider | None]:
    """Make a provider, call it once and judge what it gives."""
    if missing := peer.missing():
        return Measurement(peer.name, "skipped", missing), None
    begin = time.perf_counter()
    try:
        # Users make their models outside of inference mode; tensors made inside have no version counter.
        with torch.inference_mode(False):
            provider = peer.prepare(case)
        outputs = provider.function(*provider.inputs[0])
    # A peer may fail in any way that its compiler or library knows; the row says how, and the others go on.
    except Exception as error:
        return Measurement(peer.name, "failed", _reason(error), time.perf_counter() - begin), None
    seconds = time.perf_counter() - begin
    verdict = judge(outputs, exact, allowed)
    if not verdict.right:
        return Measurement(peer.name, "wrong", verdict.reason, seconds, verdict), None
    return Measurement(peer.name, "ok", prepare_s=seconds, verdict=verdict), provider


@torch.inference_mode()
def measure(
    case: Case,
    peers: Sequence[Peer],
    schedule: Schedule,
    *,
    extras: Mapping[str, Provider] | None = None,
    announce: Announce = lambda text: None,
    after_round: Callable[[], None] = lambda: None,
) -> CaseResult:
    """Measure a case.

    Args:
        extras: providers that are timed in the same rounds and not judged.
        announce: told what happens now, for a progress line.
        after_round: called after every round.
    """
    announce("float64 result")
    exact = _exact(case, case.inputs[0])
    eager = relative_error(case.module(*case.inputs[0]), exact)
    allowed = allowed_error(eager, case.dtype)
    measurements: dict[str, Measurement] = {}
    calls: dict[str, RotatingCall] = {}
    for peer in peers:
        announce(f"{peer.name}: {'compiling' if peer.compiles else 'preparing'}")
        measurement, provider = _prepare(peer, case, exact, allowed)
        measurements[peer.name] = measurement
        if provider is not None:
            calls[peer.name] = RotatingCall(provider.function, provider.inputs)
    extras = extras or {}
    calls |= {name: RotatingCall(extra.function, extra.inputs) for name, extra in extras.items()}
    announce("timing")
    foreign = ForeignLoad()
    samples = interleave(calls, schedule, after_round=after_round) if calls else {}
    others = foreign.share()
    summaries = {name: Summary.of(values) for name, values in samples.items()}
    return CaseResult(
        [replace(measurement, summary=summaries.get(name)) for name, measurement in measurements.items()],
        {name: summaries[name] for name in extras},
        others,
    )
