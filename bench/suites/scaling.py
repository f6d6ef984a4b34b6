"""Whole networks over batch sizes at their own resolution, and over resolutions at batch 1."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from bench.environment import Environment
from bench.networks import find_origin
from bench.suites.models import ModelTask
from bench.timing import Schedule

NAMES = ("efficientnet_b0",)
# Preparing an engine costs seconds at every point, so few take part unless they are named.
PEERS = ("channels_last", "onnxruntime")
# Of a usual and of a quick run.
BATCHES = {False: (1, 2, 4, 8, 16, 32, 64), True: (1, 2, 4)}
RESOLUTIONS = {False: (128, 160, 192, 224, 256, 320, 384, 448, 512), True: (128, 160, 192)}
SCHEDULE = Schedule(rounds=12, sample_seconds=0.1, warmup_seconds=0.3, case_seconds=40)


def tasks(
    names: Sequence[str],
    batches: Sequence[int],
    resolutions: Sequence[int],
    dtype: torch.dtype,
    environment: Environment,
) -> list[ModelTask]:
    """Both sweeps of every network; they share the point at batch 1 and the network's own resolution.

    Raises:
        BenchError: an unknown name.
    """
    found = []
    for name in names:
        own = find_origin(name).resolution
        points = [(batch, own) for batch in batches]
        points += [(1, resolution) for resolution in resolutions]
        if resolutions:
            points.append((1, own))
        found += [
            ModelTask(name, batch, resolution, dtype, environment, suite="scaling")
            for batch, resolution in sorted(dict.fromkeys(points), key=lambda point: (point[0] > 1, *point))
        ]
    return found
