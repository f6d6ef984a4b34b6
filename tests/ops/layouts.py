"""The ways a tensor of given values can lie in memory that users really pass."""

import torch


def _channels_last(t):
    return t.contiguous(memory_format=torch.channels_last) if t.dim() == 4 else t.contiguous()


def _every_second(t):
    """A slice of a tensor with twice the channels (or columns)."""
    wide = torch.full((t.shape[0], 2 * t.shape[1], *t.shape[2:]), float("nan"), dtype=t.dtype)
    wide[:, ::2] = t
    return wide[:, ::2]


def _transposed(t):
    return t.transpose(-1, -2).contiguous().transpose(-1, -2)


def _offset(t):
    """A view into the middle of a larger buffer of NaN."""
    buffer = torch.full((t.numel() + 14,), float("nan"), dtype=t.dtype)
    view = buffer[7 : 7 + t.numel()].view(t.shape)
    view.copy_(t)
    return view


def _expanded(t):
    """Stride 0 over the batch; values change, so the reference must get the same tensor."""
    return t[:1].expand_as(t) if t.shape[0] else t


LAYOUTS = {
    "contiguous": lambda t: t.contiguous(),
    "channels_last": _channels_last,
    "every_second": _every_second,
    "transposed": _transposed,
    "offset": _offset,
    "expanded": _expanded,
}
