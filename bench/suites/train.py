"""Training steps of whole networks."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial

import torch
from torch import nn

from bench import allocator, device
from bench.environment import Environment
from bench.errors import BenchError
from bench.measure import CaseResult
from bench.networks import Network, find_origin, plain_network
from bench.peers import TrainingPeer, registry
from bench.progress import Watcher
from bench.record import CaseKey, Row
from bench.runner import PeersTask
from bench.selection import SUBJECT
from bench.timing import Schedule
from bench.training.measure import measure_training
from bench.training.step import TrainingCase, TrainingStep
from bench.training.verify import Results, exact_results

NAMES = ("mobilenetv3_large_100", "efficientnet_b0")
# Of a usual and of a quick run.
BATCHES = {False: (16,), True: (4,)}
RESOLUTION = {False: 224, True: 64}
SCHEDULE = Schedule(rounds=20, sample_seconds=0.3, warmup_seconds=0.0, case_seconds=30, fewest=3, settles=False)

_CLASSES = 1000
# Eager PyTorch in both memory layouts: its errors say what others may err.
_YARDSTICKS = ("eager", "channels_last")

# The batches and dtypes of a network come one after the other, so one of each is enough.
_network = lru_cache(maxsize=1)(plain_network)


def _fused(network: Network) -> Callable[[], nn.Module]:
    return lambda: network.subject().train().to(device.current(), memory_format=torch.channels_last)


def _case(name: str, batch: int, resolution: int, dtype: torch.dtype) -> TrainingCase:
    network = _network(name)
    generator = torch.Generator().manual_seed(0)
    return TrainingCase(
        module=copy.deepcopy(network.module).to(device.current()),
        images=torch.randn(batch, 3, resolution, resolution, generator=generator).to(device.current()),
        labels=torch.randint(_CLASSES, (batch,), generator=generator).to(device.current()),
        fused=_fused(network),
        dtype=dtype,
    )


@lru_cache(maxsize=1)
def _exact(name: str, batch: int, resolution: int) -> Results:
    """The same for all dtypes: under autocast the weights and images are float32 too."""
    return exact_results(_case(name, batch, resolution, torch.float32))


@dataclass
class TrainTask(PeersTask):
    """One network at one batch size, resolution and dtype, with random weights, images and labels."""

    name: str
    batch: int
    resolution: int
    dtype: torch.dtype
    environment: Environment

    @property
    def label(self) -> str:
        return f"{self.name}@{self.resolution} batch {self.batch} {self._dtype_name}"

    @property
    def _dtype_name(self) -> str:
        return str(self.dtype).removeprefix("torch.")

    @property
    def key(self) -> CaseKey:
        return CaseKey("train", self.name, self.batch, self.resolution, self._dtype_name, "warm")

    def case(self) -> TrainingCase:
        return _case(self.name, self.batch, self.resolution, self.dtype)

    def measure(self, peers: Sequence[TrainingPeer], schedule: Schedule, watcher: Watcher) -> CaseResult:
        watcher.announce("building")
        known = registry(TrainingPeer)
        return measure_training(
            self.case(),
            partial(_exact, self.name, self.batch, self.resolution),
            peers,
            [known[name] for name in _YARDSTICKS],
            schedule,
            watcher,
        )

    def template(self) -> Row:
        return Row(
            **self.key._asdict(),
            models=self.name,
            network=_network(self.name).source,
            allocator=allocator.SYSTEM,
            provider="",
            status="",
            environment=self.environment,
        )


def profiled(task: TrainTask) -> TrainingStep:
    """effops' step of a case."""
    return registry(TrainingPeer)[SUBJECT].prepare_training(task.case())


def tasks(
    names: Sequence[str],
    batches: Sequence[int],
    resolution: int,
    dtypes: Sequence[torch.dtype],
    environment: Environment,
) -> list[TrainTask]:
    """One task a network, batch and dtype.

    Raises:
        BenchError: an unknown name, or one of another library's alone.
    """
    for name in names:
        if find_origin(name).library != "effops":
            raise BenchError(f"train takes the names of effops' own models; got {name!r}. models takes all")
    return [
        TrainTask(name, batch, resolution, dtype, environment)
        for name in names
        for batch in batches
        for dtype in dtypes
    ]
