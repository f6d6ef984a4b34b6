"""The one place that launches Triton kernels, and what every launch needs: dense tensors and configurations."""

from __future__ import annotations

import functools
import json
import math
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from . import INTERPRETED

if INTERPRETED:
    from . import interpreter

    interpreter.mend()

Grid = tuple[int, ...]
_CONFIGS = Path(__file__).parent / "configs"


@dataclass(frozen=True)
class Launch:
    """A launch that was recorded instead of run: what Triton was going to be called with."""

    kernel: Any
    grid: Grid
    args: tuple
    keywords: dict[str, Any]


_recording: list[Launch] | None = None


@contextmanager
def recorded() -> Iterator[list[Launch]]:
    """Collect the launches made inside instead of running them; outputs stay as they were allocated."""
    global _recording
    before, _recording = _recording, []
    try:
        yield _recording
    finally:
        _recording = before


def launch(kernel: Any, grid: Grid, *args: Any, num_warps: int = 4, num_stages: int = 1, **constexprs: Any) -> None:
    """Run a kernel on the device of its first argument, in that device's current stream; an empty grid does nothing."""
    if math.prod(grid) == 0:
        return
    keywords = {"num_warps": num_warps, "num_stages": num_stages, **constexprs}
    if _recording is not None:
        _recording.append(Launch(kernel, grid, args, keywords))
        return
    device = args[0].device
    with torch.cuda.device(device) if device.type == "cuda" else nullcontext():
        kernel[grid](*args, **keywords)


@functools.cache
def _device_name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "default"


@functools.cache
def _lookup(table: str, device: str, bucket: str) -> dict[str, int]:
    devices = json.loads((_CONFIGS / f"{table}.json").read_text(encoding="utf-8"))
    default = devices["default"]
    return devices.get(device, {}).get(bucket) or default.get(bucket) or default["any"]


def config(table: str, x: Tensor, bucket: str = "any") -> dict[str, int]:
    """The launch configuration for x's device and a bucket of shapes: ``configs/<table>.json``.

    A table maps device names to buckets to configurations. A device or bucket that it lacks takes the row "default",
    whose bucket "any" runs everywhere. The dictionary is shared: do not change it.
    """
    return _lookup(table, _device_name(x.device), bucket)


def dtype_bucket(x: Tensor) -> str:
    """The part of a bucket's name that stands for the size of x's values: "16bit" or "32bit"."""
    return f"{8 * x.element_size()}bit"


def rows(x: Tensor) -> Tensor:
    """An image (N, C, H, W) as a dense (N, H, W, C) tensor; copies only what is not channels_last already."""
    return x.permute(0, 2, 3, 1).contiguous()


def dense(x: Tensor | None) -> Tensor | None:
    """A contiguous tensor of these values, or None."""
    return None if x is None else x.contiguous()


def units(channels: int) -> tuple[int, int]:
    """channels = count * unit with unit a power of two up to 16.

    Kernels take both, unit as a constexpr: Triton sees by itself only divisibility by 16, and loads 24 channels by
    single values unless the product tells it that they are a multiple of 8.
    """
    unit = math.gcd(channels, 16)
    return channels // unit, unit


def power_of_2(n: int) -> int:
    """The smallest power of two that is at least n."""
    return 1 << max(n - 1, 0).bit_length()
