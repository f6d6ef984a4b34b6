"""Tensors between guard bands: what is read or written outside of them shows."""

import torch

_BAND = 64  # values; keeps the alignment that the allocator gives


def between_nans(name, t):
    """The tensor, dense as the kernels want it, in the middle of NaN. Made for ``KernelSample.map``."""
    dense = t.contiguous(memory_format=torch.channels_last) if t.dim() == 4 else t.contiguous()
    buffer = torch.full((t.numel() + 2 * _BAND,), float("nan"), dtype=t.dtype)
    return buffer.as_strided(t.shape, dense.stride(), _BAND).copy_(dense)


class GuardedAllocator:
    """A torch.empty that fills what it allocates, and a band on both sides, with a sentinel."""

    def __init__(self, empty):
        self._empty = empty
        self._buffers = []

    def __call__(self, *size, **keywords):
        like = self._empty(*size, **keywords)
        # NaN, so that whatever a kernel computes from what it never wrote shows too.
        sentinel = float("nan") if like.dtype.is_floating_point else 77
        buffer = torch.full((like.numel() + 2 * _BAND,), sentinel, dtype=like.dtype, device=like.device)
        self._buffers.append((buffer, like.numel()))
        return buffer.as_strided(like.shape, like.stride(), _BAND)

    def check(self):
        """Fails when a band was written to."""
        assert self._buffers, "nothing was allocated by torch.empty"
        for buffer, size in self._buffers:
            bands = torch.cat([buffer[:_BAND], buffer[_BAND + size :]])
            untouched = bands.isnan() if bands.dtype.is_floating_point else bands == 77
            assert untouched.all(), f"written outside of an output of {size} values"
