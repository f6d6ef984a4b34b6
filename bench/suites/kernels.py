"""The rows of the op table one by one, forward and backward, in every backend of the device, against a copy's rate.

What ops and models are made of, and what no public function shows alone: the kernels of training.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

import torch
from torch import Tensor

from bench import device
from bench.case import Provider
from bench.environment import Environment
from bench.errors import unknown
from bench.limits import copy_provider
from bench.measure import CaseResult, Measurement, reason, time_all
from bench.peers import Peer
from bench.progress import Watcher
from bench.record import CaseKey, Row
from bench.runner import PeersTask
from bench.selection import SUBJECT, Selection
from bench.suites.ops import COPY, limited
from bench.timing import RotatingCall, Schedule, sets_past_cache
from bench.verify import allowed_error, judge, relative_error
from effops.ops import backends
from effops.ops.spec import ACTIVATIONS, Op
from effops.ops.table import OPS

SCHEDULE = Schedule(rounds=15, sample_seconds=0.02, warmup_seconds=0.1)
# Batch sizes whose large maps leave the caches of the device.
BATCHES = {"cpu": (4,), "cuda": (128,)}

# Side and channels of the expanded tensors of EfficientNet-B0.
_MAPS = ((112, 96), (56, 144), (28, 240), (14, 480), (7, 1152))
_SILU = ACTIVATIONS.index("silu")
_REFERENCE = "reference"

Arguments = tuple[Tensor | int | bool | None, ...]


@dataclass(frozen=True)
class _Map:
    """Random arguments of a map in the dtype of a case, on the device of the run."""

    n: int
    size: int
    c: int
    dtype: torch.dtype

    def image(self, channels: int | None = None, size: int | None = None) -> Tensor:
        size = size or self.size
        shape = (self.n, channels or self.c, size, size)
        made = torch.randn(shape, dtype=self.dtype, device=device.current())
        return made.contiguous(memory_format=torch.channels_last)

    def floats(self, *shape: int) -> Tensor:
        return torch.randn(shape, device=device.current())

    def weight(self, *shape: int) -> Tensor:
        return (self.floats(*shape) / shape[1] ** 0.5 / shape[-1]).to(self.dtype)

    def affine(self) -> Tensor:
        return torch.stack([self.floats(self.c), 0.5 + self.floats(self.c).abs(), self.floats(self.c)])

    def coef(self) -> Tensor:
        return torch.cat([self.affine(), 0.1 * self.floats(2, self.c)])


Maker = Callable[[_Map], Arguments]


def _depthwise(kernel: int, stride: int) -> Iterator[tuple[str, Maker]]:
    geometry = (stride, stride, kernel // 2, kernel // 2, 1, 1)

    def forward(m: _Map) -> Arguments:
        return (m.image(), m.weight(m.c, 1, kernel, kernel), m.floats(m.c), *geometry, _SILU)

    def stats(m: _Map) -> Arguments:
        return (m.image(), m.affine(), m.weight(m.c, 1, kernel, kernel), *geometry, _SILU)

    def backward(m: _Map) -> Arguments:
        grad, u = (m.image(size=-(-m.size // stride)) for _ in range(2))
        view = (m.image(), m.affine(), _SILU)
        return (grad, u, m.coef(), None, None, _SILU, *view, m.weight(m.c, 1, kernel, kernel), *geometry, True, True)

    yield "depthwise_conv_act", forward
    yield "depthwise_conv_act_pool", forward
    yield "depthwise_conv_stats", stats
    yield "depthwise_conv_backward", backward


def _passes() -> Iterator[tuple[str, Maker]]:
    yield "batch_norm_stats", lambda m: (m.image(),)
    yield "batch_norm_apply", lambda m: (m.image(), m.affine(), None, m.image(), _SILU)
    yield "batch_norm_pool", lambda m: (m.image(), m.affine(), _SILU)
    yield "batch_norm_grad_sums", lambda m: (m.image(), m.image(), m.affine(), _SILU)
    yield "batch_norm_grad_apply", lambda m: (m.image(), m.image(), m.coef(), None, None, _SILU)


def _projection() -> Iterator[tuple[str, Maker]]:
    def forward(m: _Map) -> Arguments:
        out = m.c // 6
        return m.image(), m.weight(out, m.c, 1, 1), m.floats(out), m.floats(m.n, m.c).sigmoid(), m.image(out), 0

    def stats(m: _Map) -> Arguments:
        return m.image(), m.affine(), m.floats(m.n, m.c).sigmoid(), m.weight(m.c // 6, m.c, 1, 1), _SILU

    def backward(m: _Map) -> Arguments:
        out = replace(m, c=m.c // 6)
        grad = (out.image(), out.image(), out.coef(), None, None, 0)
        gate = m.floats(m.n, m.c).sigmoid()
        return (*grad, m.image(), m.affine(), gate, _SILU, m.weight(out.c, m.c, 1, 1), True, True)

    yield "pointwise_conv_act", forward
    yield "pointwise_conv_stats", stats
    yield "pointwise_conv_backward", backward


def _se_chain() -> Iterator[tuple[str, Maker]]:
    """Depthwise convolution with its mean, gate, projection with the gate: a block whose expansion is done."""

    def forward(m: _Map) -> Arguments:
        reduced, out = m.c // 24, m.c // 6
        depthwise = (m.weight(m.c, 1, 5, 5), m.floats(m.c), 1, 1, 2, 2, 1, 1)
        gate = (m.weight(reduced, m.c, 1, 1), m.floats(reduced), m.weight(m.c, reduced, 1, 1), m.floats(m.c))
        project = (m.weight(out, m.c, 1, 1), m.floats(out), False)
        return (m.image(), None, None, *depthwise, *gate, *project, _SILU, _SILU, 0, 0)

    yield "mbconv", forward


def _inverted_residual() -> Iterator[tuple[str, Maker]]:
    def forward(m: _Map) -> Arguments:
        c = m.c // 6
        expand = (m.weight(m.c, c, 1, 1), m.floats(m.c))
        depthwise = (m.weight(m.c, 1, 3, 3), m.floats(m.c), 1, 1, 1, 1, 1, 1)
        project = (m.weight(c, m.c, 1, 1), m.floats(c), True)
        return (m.image(c), *expand, *depthwise, *(None,) * 4, *project, _SILU, 0, 0, 0)

    yield "mbconv", forward


def _fused_inverted_residual() -> Iterator[tuple[str, Maker]]:
    def forward(m: _Map) -> Arguments:
        c = m.c // 4
        expand = (m.weight(m.c, c, 3, 3), m.floats(m.c), 1, 1, 1, 1, 1, 1)
        return (m.image(c), *expand, m.weight(c, m.c, 1, 1), m.floats(c), True, _SILU, 0)

    yield "fused_mbconv", forward


_VARIANTS: tuple[tuple[str, Callable[[], Iterator[tuple[str, Maker]]]], ...] = (
    ("", _passes),
    ("k3 s1", partial(_depthwise, 3, 1)),
    ("k3 s2", partial(_depthwise, 3, 2)),
    ("k5 s1", partial(_depthwise, 5, 1)),
    (">c/6", _projection),
    ("se k5 s1 >c/6", _se_chain),
    ("c/6> k3 s1 >c/6", _inverted_residual),
    ("c/4> k3 s1 >c/4", _fused_inverted_residual),
)


def known_rows(names: Sequence[str]) -> tuple[str, ...]:
    """The rows asked for, or all that the suite has arguments for.

    Raises:
        BenchError: a name that the suite does not have.
    """
    rows = tuple(dict.fromkeys(row for _, make in _VARIANTS for row, _ in make()))
    for name in names:
        if name not in rows:
            raise unknown("row", name, rows, f"the rows are {', '.join(rows)}")
    return tuple(names) or rows


def _tuple(outputs: Tensor | tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    return outputs if isinstance(outputs, tuple) else (outputs,)


def _double(argument: Tensor | int | bool | None) -> Tensor | int | bool | None:
    return argument.double() if isinstance(argument, Tensor) else argument


def served(op: Op) -> dict[str, str | None]:
    """The backend of every provider: effops' first choice, None where it has no kernel, and its other backends."""
    first, *others = op.backends.get(device.current().type, ()) or (None,)
    return {SUBJECT: first, **{f"{SUBJECT}_{name}": name for name in others}}


def _providers(op: Op, arguments: Arguments) -> Mapping[str, Callable[..., object] | str]:
    """By name how to run the row: effops' first choice, its other backends, plain torch; or why it cannot run."""
    found: dict[str, Callable[..., object] | str] = {}
    for provider, name in served(op).items():
        if name is None:
            found[provider] = f"it has no kernel for {op.name} on {device.current().type}"
            continue
        backend = backends.BACKENDS[name]
        why = backends.why_not(backend, op, arguments)
        found[provider] = why or (lambda *args, backend=backend: backend.run(op, args))
    return {**found, _REFERENCE: op.reference}


@dataclass
class KernelTask(PeersTask):
    """One row of the op table at one size."""

    row: str
    variant: str
    size: int
    channels: int
    make: Maker
    batch: int
    dtype: torch.dtype
    environment: Environment
    gemm_gflops: float
    allocator: str
    _bytes: int = field(default=0, init=False)
    _macs: int = field(default=0, init=False)

    @property
    def label(self) -> str:
        return f"{self.row} {self.size}x{self.size} c{self.channels} {self.variant}".rstrip()

    @property
    def key(self) -> CaseKey:
        return CaseKey("kernels", self.label, self.batch, None, str(self.dtype).removeprefix("torch."), "cold")

    def providers(self, selection: Selection) -> list[str]:
        return [*served(OPS[self.row]), _REFERENCE]

    @torch.no_grad()
    def measure(self, peers: Sequence[Peer], schedule: Schedule, watcher: Watcher) -> CaseResult:
        op = OPS[self.row]
        torch.manual_seed(0)
        make = partial(self.make, _Map(self.batch, self.size, self.channels, self.dtype))
        inputs = [make()]
        cost = op.cost(*inputs[0])
        self._bytes, self._macs = cost.bytes, cost.macs
        inputs += [make() for _ in range(sets_past_cache(cost.bytes, self.environment.last_level_cache_bytes) - 1)]
        watcher.announce("float64 result")
        exact = _tuple(op.reference(*map(_double, inputs[0])))
        allowed = allowed_error(relative_error(_tuple(op.reference(*inputs[0])), exact), self.dtype)
        measurements, calls = [], {}
        for name, run in _providers(op, inputs[0]).items():
            if isinstance(run, str):
                measurements.append(Measurement(name, "skipped", run))
                continue
            try:
                watcher.enter(name, "preparing")
                verdict = judge(_tuple(run(*inputs[0])), exact, allowed)
            # A kernel may fail in any way; the row says how, and the others go on.
            except Exception as error:
                measurements.append(Measurement(name, "failed", reason(error)))
                continue
            status = "ok" if verdict.right else "wrong"
            measurements.append(Measurement(name, status, verdict.reason, verdict=verdict))
            if verdict.right:
                calls[name] = RotatingCall(run, inputs)
        copies: Provider = copy_provider(self._bytes, len(inputs))
        extras = {COPY: RotatingCall(copies.function, copies.inputs)}
        return time_all(measurements, calls, extras, schedule, watcher)

    def template(self) -> Row:
        return Row(
            **self.key._asdict(),
            op=self.row,
            models="",
            network="plain torch",
            allocator=self.allocator,
            provider="",
            status="",
            macs=self._macs,
            bytes=self._bytes,
            gemm_gflops=self.gemm_gflops,
            environment=self.environment,
        )

    def complete(self, row: Row, result: CaseResult) -> Row:
        return limited(row, result, self._macs, self._bytes, self.gemm_gflops)


def tasks(
    rows: Sequence[str],
    batches: Sequence[int],
    dtype: torch.dtype,
    environment: Environment,
    *,
    gemm_gflops: float,
    allocator: str,
    quick: bool,
) -> list[KernelTask]:
    """One task a row, variant, map and batch; a quick run takes the last two maps."""
    return [
        KernelTask(row, variant, size, channels, make, batch, dtype, environment, gemm_gflops, allocator)
        for batch in batches
        for variant, makers in _VARIANTS
        for row, make in makers()
        if row in rows
        for size, channels in (_MAPS[-2:] if quick else _MAPS)
    ]
