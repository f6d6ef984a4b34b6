"""Triton's kernels without a GPU: in the interpreter (``TRITON_INTERPRET=1``), and compiled ahead of time (without it).

A process can do one of the two, so each test says which it needs: those that run kernels are skipped outside of the
interpreter, those marked ``compiled`` inside of it.
"""

import pytest
import torch

from effops.ops import triton as triton_backend

from .memory import GuardedAllocator


def pytest_collection_modifyitems(items):
    for item in items:
        compiles = "test_ahead_of_time" in item.nodeid
        if "tests/triton/" not in item.nodeid or compiles != triton_backend.INTERPRETED:
            continue
        reason = "needs a process without TRITON_INTERPRET" if compiles else "runs kernels: set TRITON_INTERPRET=1"
        item.add_marker(pytest.mark.skip(reason=reason))


@pytest.fixture
def guarded_outputs(monkeypatch):
    """What torch.empty gives lies between bands, all of it filled with a value that no kernel computes.

    The bands are looked at when the test ends; ``guarded_outputs.check()`` does it earlier.
    """
    allocator = GuardedAllocator(torch.empty)
    monkeypatch.setattr(torch, "empty", allocator)
    yield allocator
    monkeypatch.undo()
    allocator.check()
