"""Whole networks in eval."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache

import torch

from bench import allocator, device, goals, limits
from bench.case import Case, Function, Provider
from bench.environment import Environment
from bench.errors import BenchError
from bench.measure import CaseResult
from bench.networks import Network, find_origin, plain_network
from bench.record import CaseKey, Row
from bench.runner import EvalTask
from bench.timing import Schedule
from bench.work import work_of

NAMES = ("efficientnet_b0", "tf_efficientnet_lite0", "mobilenetv2_100", "mobilenetv3_large_100")
SCHEDULE = Schedule(rounds=20, sample_seconds=0.1, warmup_seconds=0.4)

PRODUCT = "matrix product"

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
    _macs: int = field(default=0, init=False)

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
        module = copy.deepcopy(network.module).to(device.current(), self.dtype)
        (inputs,) = device.moved((images,))
        self._macs = sum(cost.macs for cost in work_of(lambda: module(inputs)).values())
        return Case(module=module, inputs=[(inputs,)], fused=_fused(network, self.dtype), dtype=self.dtype)

    def extras(self) -> Mapping[str, Provider]:
        return {PRODUCT: limits.product_provider(self.dtype)}

    def template(self) -> Row:
        return Row(
            **self.key._asdict(),
            models=self.name,
            network=self._source,
            allocator=allocator.SYSTEM,
            provider="",
            status="",
            macs=self._macs,
            environment=self.environment,
        )

    def complete(self, row: Row, result: CaseResult) -> Row:
        """Add the arithmetic rates of the network and of the matrix product beside it."""
        rate = 2 * limits.product_macs() / result.extras[PRODUCT].p50 / 1e9
        row = replace(row, gemm_gflops=rate)
        return row if row.p50_ms is None else replace(row, gflops=2 * self._macs / row.p50_ms / 1e6)


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


def goal_tasks(dtype: torch.dtype, environment: Environment) -> list[ModelTask]:
    """The cases of :data:`bench.goals.GOALS`.

    Raises:
        BenchError: none has a goal in this dtype.
    """
    found = goals.cases(str(dtype).removeprefix("torch."))
    if not found:
        raise BenchError(f"--goals has no goals in {dtype}; it takes --dtype fp32 or bf16")
    return [ModelTask(name, batch, resolution, dtype, environment) for name, batch, resolution in found]
