"""Which backend runs a call, and why: the same conditions choose, explain and refuse."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor

from ..errors import ArgumentError, BackendError
from . import extension, reference_chain, triton
from . import register as _register  # noqa: F401 - the ops must exist before the first call
from .autograd import FoldedOp
from .chain import Chain
from .chain_autograd import TrainChain
from .spec import Op, Outputs
from .table import OPS

ChainOutputs = tuple[Outputs, list[Tensor]]


@dataclass(frozen=True)
class Backend:
    """A way to run ops.

    Attributes:
        name: what ``effops.backend`` and ``EFFOPS_BACKEND`` call it.
        device_types: devices that it can serve; empty means all.
        missing: why it cannot run anything in this process, or None.
        refuses: why it cannot run this call, or None.
        run: runs the call.
        run_chain: runs a chain in training; returns its outputs and the statistics of its units.
        namespace: of torch.ops, where its kernels are; None for the reference.
        dtypes: that its kernels compute in; empty means all.
    """

    name: str
    device_types: tuple[str, ...]
    missing: str | None
    refuses: Callable[[Op, tuple], str | None]
    run: Callable[[Op, tuple], Outputs]
    run_chain: Callable[[Chain, tuple], ChainOutputs]
    namespace: str | None = None
    dtypes: tuple[torch.dtype, ...] = ()


@dataclass(frozen=True)
class Call:
    """A call that was run."""

    backend: Backend
    op: Op
    args: tuple
    outputs: Outputs


class _Record(threading.local):
    """The calls of this thread while somebody wants them."""

    calls: list[Call] | None = None


_record = _Record()


def _needs_grad(args: tuple) -> bool:
    return torch.is_grad_enabled() and any(isinstance(arg, Tensor) and arg.requires_grad for arg in args)


def _run_kernel(namespace: str, op: Op, args: tuple) -> Outputs:
    if _needs_grad(args):
        return FoldedOp.apply(namespace, op, *args)
    return op.overload_in(namespace)(*args)


def _run_kernel_chain(namespace: str, chain: Chain, args: tuple) -> ChainOutputs:
    found = TrainChain.apply(namespace, chain, *args)
    outputs = 2 if chain.pool else 1
    return found[:2] if chain.pool else found[0], list(found[outputs:])


def _refuses(kernels: str, dtypes: tuple[torch.dtype, ...], op: Op, args: tuple) -> str | None:
    for arg in args:
        if isinstance(arg, Tensor) and arg.dtype not in dtypes:
            known = ", ".join(str(dtype).removeprefix("torch.") for dtype in dtypes)
            return f"the {kernels} kernels compute in {known}; got {arg.dtype}"
    return None


def _kernels(
    name: str,
    title: str,
    devices: tuple[str, ...],
    missing: str | None,
    dtypes: tuple[torch.dtype, ...],
    namespace: str = "effops",
) -> Backend:
    """A backend whose kernels are registered with torch under a namespace."""
    return Backend(
        name,
        devices,
        missing,
        partial(_refuses, title, dtypes),
        partial(_run_kernel, namespace),
        partial(_run_kernel_chain, namespace),
        namespace,
        dtypes,
    )


_CPU_DTYPES = (torch.float32, torch.bfloat16)
_GPU_DTYPES = (torch.float32, torch.bfloat16, torch.float16)

BACKENDS: dict[str, Backend] = {
    backend.name: backend
    for backend in (
        _kernels("cpu", "CPU", ("cpu",), extension.load_error, _CPU_DTYPES),
        _kernels("cuda", "CUDA", ("cuda",), extension.cuda_missing(), _GPU_DTYPES),
        _kernels("triton", "Triton", triton.DEVICES, triton.missing(), _GPU_DTYPES, triton.NAMESPACE),
        Backend(
            "reference",
            (),
            None,
            lambda op, args: None,
            lambda op, args: op.reference(*args),
            lambda chain, args: reference_chain.run(chain, *args),
        ),
    )
}


def _known(name: str, source: str) -> str:
    if name not in BACKENDS:
        raise ArgumentError(f"{source} must be one of {', '.join(BACKENDS)}; got {name!r}")
    return name


# Process-wide, like torch.backends: torch.compile can guard on a module's global, not on a ContextVar. A wrong name in
# the environment is told at the first call: importing effops never fails.
_forced: str | None = os.environ.get("EFFOPS_BACKEND") or None
_interceptor: Callable[[tuple[Op, ...], tuple], object] | None = None


@contextmanager
def backend(name: str) -> Iterator[None]:
    """Run every effops call inside on this backend, or raise :class:`effops.BackendError` saying why it cannot.

    Holds for the whole process, as ``torch.backends`` flags do; the environment's ``EFFOPS_BACKEND`` sets the start.

    Args:
        name: "cpu" (C++ kernels), "cuda" (CUDA kernels), "triton" (Triton kernels) or "reference" (plain torch).
    """
    chosen = BACKENDS[_known(name, "backend")]
    if chosen.missing:
        raise BackendError(f"backend {name!r} is not available: {chosen.missing}")
    global _forced
    before, _forced = _forced, name
    try:
        yield
    finally:
        _forced = before


def serves(x: Tensor) -> bool:
    """Whether kernels, or the backend that was asked for, run calls on such a tensor; else only the reference would."""
    if _forced is not None:
        return True
    device, dtype = x.device.type, x.dtype
    if torch.is_autocast_enabled(device) and dtype != torch.float64:
        dtype = torch.get_autocast_dtype(device)
    return any(
        device in backend.device_types and backend.missing is None and dtype in backend.dtypes
        for backend in BACKENDS.values()
    )


def why_not(backend: Backend, op: Op, args: tuple) -> str | None:
    """Why this backend cannot run this call, or None when it can."""
    device = args[0].device.type
    if backend.device_types:
        if device not in backend.device_types:
            return f"it serves {', '.join(backend.device_types)}; the tensors are on {device}"
        if not any(backend.name in names for names in op.backends.values()):
            return f"it has no kernel for {op.name} on {device}"
    return backend.missing or backend.refuses(op, args)


def choose(rows: tuple[Op, ...], args: tuple) -> Backend:
    """The forced backend if one is forced (BackendError when it cannot), else the first that can run all these rows."""
    if _forced is not None:
        chosen = BACKENDS[_known(_forced, "EFFOPS_BACKEND")]
        for op in rows:
            if reason := why_not(chosen, op, args):
                raise BackendError(
                    f"backend {_forced!r} was asked for and cannot run {op.name}: {reason}. "
                    "Leave the choice to effops by not asking for a backend"
                )
        return chosen
    # The conditions of why_not, less those that the table already answers: this runs before every call.
    device = args[0].device.type
    for name in rows[0].backends.get(device, ()):
        candidate = BACKENDS[name]
        serves_all = len(rows) == 1 or all(name in op.backends.get(device, ()) for op in rows)
        if candidate.missing is None and candidate.refuses(rows[0], args) is None and serves_all:
            return candidate
    return BACKENDS["reference"]


def _whole(op: Op, args: tuple) -> Backend | None:
    """Whose kernel runs this call whole, of an op that can also be made of others; None: its parts have to run."""
    if _needs_grad(args):
        return None
    if _forced is not None:
        chosen = BACKENDS[_known(_forced, "EFFOPS_BACKEND")]
        return chosen if chosen.device_types and why_not(chosen, op, args) is None else None
    chosen = choose((op,), args)
    return chosen if chosen.device_types else None


def run_whole(op: Op, args: tuple) -> Outputs | None:
    """Run an op by a kernel of its own on checked schema arguments; None where its parts have to run, one by one."""
    if _interceptor is not None:
        return _interceptor((op,), args)
    chosen = _whole(op, args)
    return None if chosen is None else _run_on(chosen, op, args)


def running_rows(op: Op, args: tuple) -> tuple[Op, ...]:
    """The rows that would run a call: the op's own, or those of its parts."""
    return tuple(OPS[name] for name in op.parts) if op.parts and _whole(op, args) is None else (op,)


def run(op: Op, args: tuple) -> Outputs:
    """Run an op on checked schema arguments."""
    if _interceptor is not None:
        return _interceptor((op,), args)
    return _run_on(choose((op,), args), op, args)


def _run_on(chosen: Backend, op: Op, args: tuple) -> Outputs:
    outputs = _without_autocast(chosen.run, op, args)
    if not torch.compiler.is_compiling() and _record.calls is not None:
        _record.calls.append(Call(chosen, op, args, outputs))
    return outputs


@contextmanager
def recording() -> Iterator[list[Call]]:
    """Collect the calls of this thread."""
    before, _record.calls = _record.calls, []
    try:
        yield _record.calls
    finally:
        _record.calls = before


def forced() -> str | None:
    """The backend that was asked for, by name."""
    return _forced


def intercepted() -> bool:
    """Whether calls are handed to somebody instead of being run."""
    return _interceptor is not None


def run_chain(chain: Chain, args: tuple) -> ChainOutputs:
    """Run a chain in training on (x, sample_scale, tensors of its units): its outputs and its units' statistics."""
    rows = tuple(OPS[name] for name in chain.rows())
    if _interceptor is not None:
        return _interceptor(rows, args), []
    return _without_autocast(choose(rows, args).run_chain, chain, args)


def _without_autocast(function: Callable, what: Op | Chain, args: tuple) -> Any:
    """The public functions have cast what autocast casts; inside, float32 is meant to stay float32."""
    device = args[0].device.type
    if not torch.is_autocast_enabled(device):
        return function(what, args)
    with torch.autocast(device, enabled=False):
        return function(what, args)


def intercept(function: Callable, *args: object, **kwargs: object) -> tuple[tuple[Op, ...], tuple]:
    """Call a public op and hand back the rows and arguments it was about to run instead of running it."""
    global _interceptor
    _interceptor = lambda rows, schema_args: (rows, schema_args)  # noqa: E731
    try:
        return function(*args, **kwargs)
    finally:
        _interceptor = None


@dataclass(frozen=True)
class Explanation:
    """What would run a call, and for every backend why or why not."""

    op: str
    backend: str
    reasons: dict[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        lines = [f"{self.op}: runs on {self.backend}"]
        return "\n".join(lines + [f"  {name}: {reason}" for name, reason in self.reasons.items()])


def explain(name: str, rows: tuple[Op, ...], args: tuple) -> Explanation:
    """What would run this call, without running it."""
    reasons = {
        key: next((reason for op in rows if (reason := why_not(candidate, op, args))), None)
        for key, candidate in BACKENDS.items()
    }
    chosen = choose(rows, args).name
    texts = {}
    for key, reason in reasons.items():
        if reason is not None:
            texts[key] = reason
        elif key == chosen:
            texts[key] = "asked for" if key == _forced else "chosen: the first that can run the call"
        else:
            texts[key] = "could run it"
    return Explanation(name, chosen, texts)


@dataclass(frozen=True)
class OpReport:
    """For ``effops doctor``: who serves an op on a device, and why the others do not."""

    op: str
    device: str
    backend: str
    reasons: dict[str, str]


def _served_by(op: Op, device: str) -> tuple[str, ...]:
    """Kernel backends that serve an op on a device, whole, or all of its parts."""
    own = op.backends.get(device, ())
    if own or not op.parts:
        return own
    first, *others = (OPS[name].backends.get(device, ()) for name in op.parts)
    return tuple(name for name in first if all(name in served for served in others))


def report() -> list[OpReport]:
    """One row an op and device type that this machine has."""
    devices = ["cpu"] + (["cuda"] if torch.cuda.is_available() else [])
    rows = []
    for op in OPS.values():
        for device in devices:
            reasons = {}
            for candidate in BACKENDS.values():
                if candidate.device_types and candidate.name not in _served_by(op, device):
                    reasons[candidate.name] = f"has no kernel for {device}"
                else:
                    reasons[candidate.name] = candidate.missing or "available"
            served = next(name for name, reason in reasons.items() if reason == "available")
            rows.append(OpReport(op.name, device, served, reasons))
    return rows
