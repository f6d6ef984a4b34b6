"""Where the time of effops' networks in eval goes: the kernels of each kind, with their rates, and what is no kernel.

A network is verified as in the suite of models; it runs module by module, so that torch's profiler sees its ops. Then
it is called in turns without the profiler, which tells what it takes, and with it, which tells the time of every op.
What it takes beyond its ops is Python and the rest.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch

from bench.case import Provider
from bench.limits import copy_provider
from bench.measure import CaseResult, measure
from bench.peers import EvalPeer, registry
from bench.profiler import OUTSIDE, profiled, region
from bench.progress import Watcher
from bench.record import CaseKey, Row
from bench.runner import Task
from bench.selection import MODULES, SUBJECT, Selection
from bench.statistics import Summary
from bench.suites.models import ModelTask
from bench.suites.ops import COPY
from bench.timing import Call, RotatingCall, Schedule, sets_past_cache, warm_up
from bench.work import kind_of, work_of
from effops.ops.spec import Cost

NAMES = ("efficientnet_b0", "mobilenetv3_large_100")
SCHEDULE = Schedule(rounds=15, sample_seconds=0.05, warmup_seconds=0.3)

# A kind below this part of a network is counted among the others.
_LEAST_SHARE = 0.01
# Calls in a row without the profiler, and then with it.
_TURN = 5
# Samples of the copy that stands beside the kernels' GB/s.
_COPIES = 5
_OTHER, _OUTSIDE = "other", "outside"


@dataclass(frozen=True)
class _Calls:
    """Calls of a network: milliseconds without the profiler, and by kind of kernel with it, as many of each."""

    whole: list[float]
    kinds: list[dict[str, float]]

    def by_kind(self) -> dict[str, list[float]]:
        return {kind: [call.get(kind, 0.0) for call in self.kinds] for call in self.kinds for kind in call}


def _timed(call: Call, count: int) -> list[float]:
    """Milliseconds of calls, after an untimed one."""
    call()
    times = []
    for _ in range(count):
        begin = time.perf_counter()
        call()
        times.append((time.perf_counter() - begin) * 1e3)
    return times


def _split(call: Call, count: int) -> list[dict[str, float]]:
    """Milliseconds by kind of kernel of calls under the profiler, after an untimed one."""
    names = [str(index) for index in range(count)]

    def work() -> None:
        call()
        for name in names:
            with region(name):
                call()

    found: dict[str, dict[str, float]] = {name: {} for name in names}
    for item in profiled(work, names):
        if item.op != OUTSIDE:
            kinds, kind = found[item.region], kind_of(item.op)
            kinds[kind] = kinds.get(kind, 0.0) + item.ms
    return list(found.values())


def _alternating(call: Call, rounds: int, watcher: Watcher) -> _Calls:
    """Both kinds of calls in turns of a few, so that drift of the machine hits both."""
    calls = _Calls([], [])
    watcher.plan(rounds)
    while len(calls.whole) < rounds:
        count = min(_TURN, rounds - len(calls.whole))
        calls.whole.extend(_timed(call, count))
        calls.kinds.extend(_split(call, count))
        for _ in range(count):
            watcher.round_done()
    return calls


def _merged(by_kind: Mapping[str, list[float]], total: float) -> dict[str, list[float]]:
    """Kinds with a share worth a line of their own; the rest together, call by call."""
    kept: dict[str, list[float]] = {}
    for kind, times in by_kind.items():
        name = kind if Summary.of(times).p50 >= _LEAST_SHARE * total else _OTHER
        kept[name] = [a + b for a, b in zip(kept[name], times, strict=True)] if name in kept else times
    return kept


@dataclass(frozen=True)
class SplitTask(Task):
    """One network at one batch size.

    Attributes:
        gemm_gflops: the arithmetic limit of this run.
    """

    network: ModelTask
    gemm_gflops: float

    @property
    def label(self) -> str:
        return self.network.label

    @property
    def key(self) -> CaseKey:
        return self.network.key._replace(suite="split")

    def providers(self, selection: Selection) -> list[str]:
        return [SUBJECT]

    @torch.inference_mode()
    def rows(self, selection: Selection, schedule: Schedule, watcher: Watcher) -> list[Row]:
        """The network as a whole, and its kinds of kernels; one row alone where effops is wrong or fails."""
        watcher.announce("building")
        case = self.network.build()
        moved = 2 * self.network.environment.last_level_cache_bytes
        copies = {COPY: copy_provider(moved, sets_past_cache(moved, self.network.environment.last_level_cache_bytes))}
        peer = registry(EvalPeer)[MODULES]
        verifying = replace(schedule, rounds=min(schedule.rounds, _COPIES))
        result = measure(case, [peer], verifying, extras=copies, watcher=watcher)
        whole = self._whole(result, moved)
        if whole.status != "ok":
            return [whole]
        watcher.announce("profiling")
        with torch.inference_mode(False):
            provider: Provider = peer.prepare(case)
        call = RotatingCall(provider.function, provider.inputs)
        warm_up(call, schedule.warmup_seconds, schedule.sample_seconds)
        calls = _alternating(call, schedule.rounds, watcher)
        whole = replace(whole, rounds=schedule.rounds, **_times(calls.whole))
        return [whole, *self._parts(whole, calls.by_kind(), work_of(call))]

    def _whole(self, result: CaseResult, moved: int) -> Row:
        (found,) = result.measurements
        row = replace(
            self.network.template(),
            suite="split",
            case=f"{self.network.name} whole",
            provider=SUBJECT,
            status=found.status,
            reason=found.reason,
            prepare_s=found.prepare_s,
            others=result.others,
            gemm_gflops=self.gemm_gflops,
            copy_gbps=moved / result.extras[COPY].p50 / 1e9,
        )
        if found.verdict is not None:
            row = replace(row, error=found.verdict.error, allowed_error=found.verdict.allowed)
        return row

    def _parts(self, whole: Row, by_kind: Mapping[str, list[float]], work: Mapping[str, Cost]) -> list[Row]:
        kept = _merged(by_kind, whole.p50_ms)
        folded = [cost for kind, cost in work.items() if kind not in kept or kind == _OTHER]
        costs = {kind: work.get(kind, Cost(0, 0)) for kind in kept}
        if _OTHER in kept:
            costs[_OTHER] = Cost(sum(cost.macs for cost in folded), sum(cost.bytes for cost in folded))
        summaries = {kind: Summary.of(times) for kind, times in kept.items()}
        rows = [self._part(whole, kind, found, costs[kind]) for kind, found in summaries.items()]
        inside = sum(found.p50 for found in summaries.values())
        left = Summary(*(max(0.0, time - inside) for time in (whole.p20_ms, whole.p50_ms, whole.p80_ms)))
        return [*rows, self._part(whole, _OUTSIDE, left, Cost(0, 0))] if left.p50 else rows

    def _part(self, whole: Row, kind: str, found: Summary, cost: Cost) -> Row:
        row = replace(
            whole,
            case=f"{self.network.name} {kind}",
            op=kind,
            prepare_s=None,
            error=None,
            allowed_error=None,
            p20_ms=found.p20,
            p50_ms=found.p50,
            p80_ms=found.p80,
        )
        if not cost.bytes:
            return row
        seconds = found.p50 / 1e3
        rates = {"gbps": cost.bytes / seconds / 1e9, "gflops": 2 * cost.macs / seconds / 1e9}
        return replace(row, macs=cost.macs, bytes=cost.bytes, **rates)


def _times(samples: Sequence[float]) -> dict[str, float]:
    found = Summary.of(samples)
    return {"p20_ms": found.p20, "p50_ms": found.p50, "p80_ms": found.p80}


def tasks(networks: Sequence[ModelTask], gemm_gflops: float) -> list[SplitTask]:
    """One task a network and batch."""
    return [SplitTask(network, gemm_gflops) for network in networks]
