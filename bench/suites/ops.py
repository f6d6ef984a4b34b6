"""Single ops at the shapes of the networks, against the same ops unfused and against the machine's limits."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

import torch
from torch import Tensor, nn

from bench import device
from bench.case import Case, Function, Provider
from bench.environment import Environment
from bench.errors import BenchError, unknown
from bench.limits import Limit, copy_provider
from bench.measure import CaseResult
from bench.problems import Problem
from bench.record import CaseKey, Row
from bench.runner import EvalTask
from bench.shapes import problems
from bench.timing import Schedule, sets_past_cache
from effops import ops
from effops.arch import find_arch
from effops.ops.introspection import prepared
from effops.ops.spec import Cost

OPS = ("conv_act", "depthwise_conv_act", "pointwise_conv_act", "se_gate")
SCHEDULE = Schedule(rounds=15, sample_seconds=0.01, warmup_seconds=0.1)

COPY = "copy"


def _layout(weight: Tensor) -> Tensor:
    return ops.kernel_layout(weight) if weight.dim() == 4 else weight


def fused_call(problem: Problem, module: nn.Module) -> Function:
    """effops' answer to a problem, with the weights of the plain module."""
    weights = tuple(_layout(weight) for weight in problem.weights(module))
    function = getattr(ops, problem.op)
    return lambda *inputs: problem.apply(function, weights, inputs)


def known_ops(names: Sequence[str]) -> tuple[str, ...]:
    """The ops asked for, or all of them.

    Raises:
        BenchError: a name that the networks have no problem for.
    """
    for name in names:
        if name not in OPS:
            raise unknown("op", name, OPS, f"the networks use {', '.join(OPS)}")
    return tuple(names) or OPS


def unique_problems(names: Iterable[str], wanted_ops: Sequence[str]) -> dict[Problem, list[str]]:
    """The problems of these networks without repetitions, in order of the ops, each with its networks.

    Raises:
        BenchError: there are none.
        effops.ArgumentError: an unknown name.
    """
    names = list(names)
    found: dict[Problem, list[str]] = {}
    for name in names:
        for problem in problems(find_arch(name)):
            owners = found.setdefault(problem, [])
            if problem.op in wanted_ops and name not in owners:
                owners.append(name)
    chosen = [item for item in found.items() if item[1]]
    if not chosen:
        raise BenchError(f"{', '.join(names)} has no {' or '.join(wanted_ops)}")
    return dict(sorted(chosen, key=lambda item: wanted_ops.index(item[0].op)))


def quick_subset(found: Mapping[Problem, list[str]], per_op: int = 3) -> dict[Problem, list[str]]:
    """A few problems of every op, spread evenly from the first layers to the last."""
    chosen: dict[Problem, list[str]] = {}
    for op in OPS:
        of_op = [problem for problem in found if problem.op == op]
        step = max(1, (len(of_op) + per_op - 1) // per_op)
        chosen |= {problem: found[problem] for problem in of_op[::step]}
    return chosen


def limited(row: Row, result: CaseResult, macs: int, moved: int, gemm_gflops: float) -> Row:
    """A row with its rates, and its share of the binding limit: the copy of as many bytes, or the matrix product."""
    copied = result.extras[COPY].p50
    limit = Limit.of(macs=macs, copy_seconds=copied, gemm_gflops=gemm_gflops)
    row = replace(row, copy_gbps=moved / copied / 1e9, limit=limit.binds)
    if row.p50_ms is None:
        return row
    seconds = row.p50_ms / 1e3
    return replace(
        row,
        gbps=moved / seconds / 1e9,
        gflops=2 * macs / seconds / 1e9,
        share_of_limit=limit.seconds / seconds,
    )


@dataclass
class OpTask(EvalTask):
    """One problem at one batch size.

    Attributes:
        gemm_gflops: the arithmetic limit of this run.
        cold: rotate the buffers past the last-level cache.
    """

    problem: Problem
    models: list[str]
    batch: int
    dtype: torch.dtype
    environment: Environment
    gemm_gflops: float
    cold: bool
    allocator: str
    _cost: Cost = field(init=False)
    _sets: int = field(init=False)

    @property
    def label(self) -> str:
        return f"{self.problem.label} batch {self.batch}"

    @property
    def key(self) -> CaseKey:
        dtype = str(self.dtype).removeprefix("torch.")
        return CaseKey("ops", self.problem.label, self.batch, None, dtype, "cold" if self.cold else "warm")

    def build(self) -> Case:
        torch.manual_seed(0)
        here = device.current()
        module = self.problem.module().to(here, self.dtype).eval().requires_grad_(False)
        inputs = device.moved(self.problem.inputs(self.batch, self.dtype))
        schema_call = partial(prepared, self.problem.op)
        op, arguments = self.problem.apply(schema_call, self.problem.weights(module), inputs)
        self._cost = op.cost(*arguments)
        cache = self.environment.last_level_cache_bytes
        self._sets = sets_past_cache(self._cost.bytes, cache) if self.cold else 1
        copies = [tuple(None if value is None else value.clone() for value in inputs) for _ in range(self._sets - 1)]
        fused = partial(fused_call, self.problem, module)
        return Case(module=module, inputs=[inputs, *copies], fused=fused, dtype=self.dtype)

    def extras(self) -> Mapping[str, Provider]:
        return {COPY: copy_provider(self._cost.bytes, self._sets)}

    def template(self) -> Row:
        return Row(
            **self.key._asdict(),
            op=self.problem.op,
            models=" ".join(self.models),
            network="unfused torch ops",
            allocator=self.allocator,
            provider="",
            status="",
            macs=self._cost.macs,
            bytes=self._cost.bytes,
            gemm_gflops=self.gemm_gflops,
            environment=self.environment,
        )

    def complete(self, row: Row, result: CaseResult) -> Row:
        return limited(row, result, self._cost.macs, self._cost.bytes, self.gemm_gflops)


def tasks(
    chosen: Mapping[Problem, list[str]],
    batches: Sequence[int],
    dtype: torch.dtype,
    environment: Environment,
    *,
    gemm_gflops: float,
    cold: bool,
    allocator: str,
) -> list[OpTask]:
    """One task a problem and batch."""
    return [
        OpTask(problem, models, batch, dtype, environment, gemm_gflops, cold, allocator)
        for batch in batches
        for problem, models in chosen.items()
    ]
