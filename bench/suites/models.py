"""Whole networks in eval."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache

import torch

from bench import allocator, device
from bench.case import Case, Function
from bench.environment import Environment
from bench.networks import Network, find_origin, plain_network
from bench.record import CaseKey, Row
from bench.runner import EvalTask
from bench.timing import Schedule

NAMES = ("efficientnet_b0", "tf_efficientnet_lite0", "mobilenetv2_100", "mobilenetv3_large_100")
SCHEDULE = Schedule(rounds=20, sample_seconds=0.1, warmup_seconds=0.4)

# The batches of a network come one after the other, so one network is enough.
_network = lru_cache(maxsize=1)(plain_network)


def _fused(network: Network, dtype: torch.dtype) -> Callable[[], Function]:
    return lambda: network.subject().to(device.current(), dtype, memory_format=torch.channels_last)


@dataclass
class ModelTask(EvalTask):
    """One network at one batch size and resolution, with random weights and images."""

    name: str
    batch: int
    resolution: int
    dtype: torch.dtype
    environment: Environment
    suite: str = "models"
    _source: str = field(default="", init=False)

    @property
    def label(self) -> str:
        return f"{self.name}@{self.resolution} batch {self.batch}"

    @property
    def key(self) -> CaseKey:
        dtype = str(self.dtype).removeprefix("torch.")
        return CaseKey(self.suite, self.name, self.batch, self.resolution, dtype, "warm")

    def build(self) -> Case:
        network: Network = _network(self.name)
        self._source = network.source
        images = torch.randn(self.batch, 3, self.resolution, self.resolution, dtype=self.dtype)
        return Case(
            module=copy.deepcopy(network.module).to(device.current(), self.dtype),
            inputs=[device.moved((images,))],
            fused=_fused(network, self.dtype),
            dtype=self.dtype,
        )

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


def tasks(
    names: Sequence[str],
    batches: Sequence[int],
    resolution: int | None,
    dtype: torch.dtype,
    environment: Environment,
) -> list[ModelTask]:
    """One task a network and batch; without a resolution every network has its own.

    Raises:
        BenchError: an unknown name.
    """
    return [
        ModelTask(name, batch, resolution or find_origin(name).resolution, dtype, environment)
        for name in names
        for batch in batches
    ]
