"""What a training step holds in memory."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

from bench import device, resident


@dataclass
class StepMemory:
    """Bytes of one training step; None where they could not be measured.

    Attributes:
        held: activations saved by the forward for the backward; under autocast also its copies of the weights.
        peak: growth of the memory of process or GPU at the highest point of forward and backward.
    """

    held: int | None = None
    peak: int | None = None


class HeldBytes:
    """Counts the distinct storages that autograd saves inside :meth:`watch`.

    What a network saves outside of autograd's saved tensors is not seen; the growth of the resident set shows it.
    """

    def __init__(self, outside: Iterable[Tensor]):
        self._outside = {tensor.untyped_storage().data_ptr() for tensor in outside}
        self._storages: dict[int, int] = {}

    def _pack(self, tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in self._outside:
            self._storages[storage.data_ptr()] = storage.nbytes()
        return tensor

    @contextmanager
    def watch(self) -> Iterator[None]:
        # Saved tensors live until the backward, so that no address is seen twice.
        with torch.autograd.graph.saved_tensors_hooks(self._pack, lambda tensor: tensor):
            yield

    @property
    def total(self) -> int:
        return sum(self._storages.values())


@contextmanager
def peak_growth(memory: StepMemory) -> Iterator[None]:
    """Set ``memory.peak`` to the growth inside; leaves it alone where the kernel does not tell."""
    if device.current().type == "cuda":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        yield
        memory.peak = torch.cuda.max_memory_allocated() - before
        return
    try:
        resident.trim()
        resident.reset_peak()
        before = resident.resident_bytes()
    except (OSError, UnicodeError):
        yield
        return
    yield
    memory.peak = max(0, resident.peak_bytes() - before)
