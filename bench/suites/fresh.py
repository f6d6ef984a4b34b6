"""Cold start and memory of whole networks, every provider in processes of its own."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import ClassVar

import torch

from bench import allocator
from bench.environment import Environment
from bench.fresh.measure import FreshCase, FreshResult, measure_fresh
from bench.networks import Network, find_origin, plain_network
from bench.peers import EvalPeer
from bench.progress import Watcher
from bench.record import CaseKey, Row
from bench.runner import PeersTask
from bench.statistics import Summary
from bench.timing import Schedule

_network = lru_cache(maxsize=1)(plain_network)


@dataclass
class FreshTask(PeersTask):
    """One network at one batch size and resolution, with random weights and images."""

    suite: ClassVar[str]
    job: ClassVar[str]

    name: str
    batch: int
    resolution: int
    dtype: torch.dtype
    environment: Environment
    _source: str = field(default="", init=False)

    @property
    def label(self) -> str:
        return f"{self.name}@{self.resolution} batch {self.batch}"

    @property
    def key(self) -> CaseKey:
        dtype = str(self.dtype).removeprefix("torch.")
        return CaseKey(self.suite, self.name, self.batch, self.resolution, dtype, "cold")

    def measure(self, peers: Sequence[EvalPeer], schedule: Schedule, watcher: Watcher) -> FreshResult:
        watcher.announce("building")
        network: Network = _network(self.name)
        self._source = network.source
        images = torch.randn(self.batch, 3, self.resolution, self.resolution)
        case = FreshCase(network, images, self.dtype, self.environment.threads)
        return measure_fresh(case, self.job, peers, schedule.rounds, watcher)

    def template(self) -> Row:
        return Row(
            **self.key._asdict(),
            models=self.name,
            network=self._source,
            allocator=allocator.SYSTEM,
            provider="",
            status="",
            environment=self.environment,
        )

    def complete(self, row: Row, result: FreshResult) -> Row:
        return self.with_figures(replace(row, rounds=result.rounds), result) if row.status == "ok" else row

    @abstractmethod
    def with_figures(self, row: Row, result: FreshResult) -> Row:
        """The row of a provider that was right, with what the suite measures."""


class ColdStartTask(FreshTask):
    """Seconds from a model with its weights to the first result."""

    suite = "coldstart"
    job = "start"

    def with_figures(self, row: Row, result: FreshResult) -> Row:
        figures = result.figures[row.provider]
        totals = [sum(both) for both in zip(figures["prepare_s"], figures["first_call_s"], strict=True)]
        times = Summary.of(totals)
        return replace(
            row,
            import_s=result.median(row.provider, "import_s"),
            export_s=result.median(row.provider, "export_s"),
            prepare_s=times.p50,
            first_call_s=result.median(row.provider, "first_call_s"),
            p20_ms=times.p20 * 1e3,
            p50_ms=times.p50 * 1e3,
            p80_ms=times.p80 * 1e3,
        )


class MemoryTask(FreshTask):
    """Growth of the resident set in the first calls, and in later ones."""

    suite = "memory"
    job = "memory"

    def with_figures(self, row: Row, result: FreshResult) -> Row:
        figures = result.figures[row.provider]
        peak, steady = (Summary.of(figures[name]) for name in ("peak_bytes", "steady_bytes"))
        return replace(
            row,
            peak_bytes=int(peak.p50),
            peak_p20_bytes=int(peak.p20),
            peak_p80_bytes=int(peak.p80),
            steady_bytes=int(steady.p50),
            steady_p20_bytes=int(steady.p20),
            steady_p80_bytes=int(steady.p80),
        )


# Networks and repetitions of a usual run; a quick one takes the last network, once.
NAMES = {
    ColdStartTask: ("efficientnet_b0", "mobilenetv3_large_100"),
    MemoryTask: ("efficientnet_b4", "efficientnet_b0"),
}
REPETITIONS = {ColdStartTask: 5, MemoryTask: 3}


def tasks(
    kind: type[FreshTask],
    names: Sequence[str],
    batches: Sequence[int],
    resolution: int | None,
    dtype: torch.dtype,
    environment: Environment,
    *,
    quick: bool,
) -> list[FreshTask]:
    """One task a network and batch; without names the suite's own, without a resolution every network's own.

    Raises:
        BenchError: an unknown name.
    """
    usual = NAMES[kind][-1:] if quick else NAMES[kind]
    return [
        kind(name, batch, resolution or find_origin(name).resolution, dtype, environment)
        for name in names or usual
        for batch in batches
    ]
