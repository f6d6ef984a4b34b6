"""Where a run computes: on the CPU, or on one CUDA device. Chosen once, before anything is built."""

from __future__ import annotations

import time

import torch
from torch import Tensor

from .errors import BenchError

NAMES = ("cpu", "cuda")

_current = torch.device("cpu")


def use(name: str) -> None:
    """Choose the device of this process.

    Raises:
        BenchError: an unknown device, or CUDA where there is none.
    """
    if name not in NAMES:
        raise BenchError(f"--device must be one of {', '.join(NAMES)}; got {name!r}")
    if name == "cuda" and not torch.cuda.is_available():
        raise BenchError("--device cuda needs a CUDA device and a CUDA build of torch; none is here. Use --device cpu")
    global _current
    _current = torch.device(name)
    # The fastest of cuDNN's kernels for a shape, as a user who cares for speed has it.
    torch.backends.cudnn.benchmark = name == "cuda"


def current() -> torch.device:
    return _current


def moved(inputs: tuple[Tensor | None, ...]) -> tuple[Tensor | None, ...]:
    """Inputs on the device of the run."""
    return tuple(None if value is None else value.to(_current) for value in inputs)


def synchronize() -> None:
    """Wait until the device has done what it was given."""
    if _current.type == "cuda":
        torch.cuda.synchronize()


def clock() -> float:
    """Seconds, with all work done: what was only launched has not been timed."""
    synchronize()
    return time.perf_counter()


def name() -> str:
    """The name of the GPU, or "cpu"."""
    return torch.cuda.get_device_name() if _current.type == "cuda" else "cpu"


def cache_bytes(of_cpu: int) -> int:
    """The last-level cache of the device, given the processor's."""
    return torch.cuda.get_device_properties().L2_cache_size if _current.type == "cuda" else of_cpu
