"""Tests on a real GPU: `make gpu-check`, or `python -m pytest tests/gpu` where one is.

`EFFOPS_TEST_DEVICE=cpu` runs them on the CPU kernels instead, which says that the tests themselves work.
"""

from __future__ import annotations

import os

import pytest
import torch

from effops.ops import backends

DEVICE = torch.device(os.environ.get("EFFOPS_TEST_DEVICE", "cuda"))

if DEVICE.type == "cuda" and not torch.cuda.is_available():
    collect_ignore_glob = ["test_*.py"]


def available() -> list[str]:
    """The kernel backends that can run on the device of these tests."""
    served = (backend for backend in backends.BACKENDS.values() if DEVICE.type in backend.device_types)
    return [backend.name for backend in served if backend.missing is None]


@pytest.fixture(params=available())
def backend(request):
    return backends.BACKENDS[request.param]


@pytest.fixture
def device():
    return DEVICE
