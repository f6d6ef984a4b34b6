"""What the kernels of a record read beside its input: packed copies, and the model's own tensors where they serve."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import torch
from torch import Tensor

from effops.ops import extension

_MAPS = Path("/proc/self/maps")
# How much is packed until what it was packed from goes.
_STRIDE = 8 << 20


class Weights:
    """The weights of all records of one model.

    Attributes:
        store: the ``WeightStore`` of its plans.
    """

    def __init__(self, tensors: Iterable[Tensor]) -> None:
        """Of a model with these tensors."""
        self.store = extension.module.WeightStore()
        self._lent = ()
        self._cleared = 0
        files = list(_mapped_files())
        # What lies in a mapped file is packed whole: its pages then go.
        self._mapped: list[tuple[int, int]] = []
        for tensor in tensors:
            if tensor.device.type != "cpu" or not tensor.numel():
                continue
            place = tensor.data_ptr(), tensor.nbytes
            if any(begin <= place[0] < end for begin, end in files):
                self._mapped.append(place)
            elif tensor.dtype in (torch.float32, torch.bfloat16) and tensor.is_contiguous():
                # Kernels read the weights of squeeze-and-excitation as they lie, and biases if they are float32. The
                # owner is another tensor of the same storage, which stays when the model's gets another.
                self.store.borrow(*place, tensor.detach())

    def lent_holds(self) -> bool:
        """Whether the model's own memory that kernels read is where it was: a storage may get other memory."""
        return all(tensor.data_ptr() == address for tensor, address in self._lent)

    def packed(self) -> None:
        """After every kernel call that was recorded."""
        if self.store.bytes >= self._cleared + _STRIDE:
            self._clear()

    def settle(self) -> None:
        """When a forward was recorded: nothing is kept that calls do not need."""
        self.store.trim()
        self._clear()
        self._lent = tuple((tensor, tensor.data_ptr()) for tensor in self.store.lenders)

    def _clear(self) -> None:
        # Results of the record lie between folded weights that are gone: larger ones would find no room there.
        extension.module.release_heap()
        for place in self._mapped:
            extension.module.page_out(*place)
        self._cleared = self.store.bytes


def _mapped_files() -> Iterator[tuple[int, int]]:
    """Where files are mapped into this process; nowhere on systems that do not tell."""
    if not _MAPS.exists():
        return
    for line in _MAPS.read_text(encoding="utf-8", errors="replace").splitlines():
        place, _, _, _, inode, *path = line.split(maxsplit=5)
        name = path[0] if path else ""
        # Shared memory is no file, and one that was deleted may be the only copy.
        if inode != "0" and name.startswith("/") and not name.startswith("/dev/") and not name.endswith("(deleted)"):
            begin, end = (int(one, 16) for one in place.split("-"))
            yield begin, end
