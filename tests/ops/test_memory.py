"""Buffers of large results are kept and used again, and given back to the system on request."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch

import effops
from effops.ops import extension

# 8 MiB: well above the size from which results come from kept buffers.
X = torch.randn(2, 64, 128, 128).contiguous(memory_format=torch.channels_last)
WEIGHT = torch.randn(64, 1, 3, 3)


def result() -> torch.Tensor:
    return effops.ops.depthwise_conv_act(X, WEIGHT, padding=1)


@pytest.fixture(autouse=True)
def _empty_cache():
    effops.release_memory()
    yield
    effops.release_memory()


def test_a_dead_results_buffer_serves_the_next():
    first = result()
    address, values = first.data_ptr(), first.clone()
    other = result()
    assert other.data_ptr() != address, "a living result keeps its buffer"
    assert torch.equal(first, other)
    del first
    again = result()
    assert again.data_ptr() == address
    assert torch.equal(again, values)


def test_release_memory_tells_what_it_freed():
    kept = result()
    size = kept.untyped_storage().nbytes()
    del kept
    assert effops.release_memory() >= size
    assert effops.release_memory() == 0


def test_free_buffers_stay_bounded():
    """Many sizes one after the other: no more stays than half again what was in use at one time."""
    most = 0
    for channels in range(16, 64, 4):
        x = X[:, :channels].contiguous(memory_format=torch.channels_last)
        most = max(most, effops.ops.depthwise_conv_act(x, WEIGHT[:channels], padding=1).untyped_storage().nbytes())
    assert effops.release_memory() <= 2 * most + (2 << 20)


def test_results_are_ordinary_tensors():
    y = result()
    want = y.clone()
    assert torch.equal(copy.deepcopy(y), want)
    assert torch.equal(pickle.loads(pickle.dumps(y)), want)
    assert torch.equal(torch.from_numpy(y.numpy()), want)
    assert torch.equal(y.view(-1) if y.is_contiguous() else y.reshape(-1), want.reshape(-1))
    view = y[1:]
    del y
    effops.release_memory()
    assert torch.equal(view, want[1:]), "a view keeps the buffer"
    assert torch.equal(view.share_memory_(), want[1:])


def test_without_the_extension_there_is_nothing_to_release(monkeypatch):
    monkeypatch.setattr(extension, "module", None)
    assert effops.release_memory() == 0
