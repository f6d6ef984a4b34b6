"""Every CUDA kernel's own source, run on the host in every order of its threads, against the float64 reference.

Outputs start as NaN and lie between guards: what is not written, and what is written beside them, shows.
"""

import pytest
import torch

from ..ops.layouts import LAYOUTS
from .calls import CALLS, DTYPES, ODD, TELLING, check, run


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("call", TELLING, ids=str)
def test_parity(shuffled, call, dtype):
    check(call.to(dtype))


@pytest.mark.slow
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("call", CALLS, ids=str)
def test_parity_of_all(order, call, dtype):
    check(call.to(dtype))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("call", ODD, ids=str)
def test_every_order_gives_the_same_bits(host, call, dtype):
    call = call.to(dtype)
    host.set_order("forward")
    first = run(call)
    for order, seed in (("forward", 1), ("reverse", 1), ("shuffled", 2), ("shuffled", 3)):
        host.set_order(order, seed)
        assert all(torch.equal(a, b) for a, b in zip(run(call), first, strict=True)), order


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("call", ODD, ids=str)
def test_layouts(host, call, layout):
    """Of inputs and of incoming gradients: stride 0 is legal there."""
    check(call.to(torch.bfloat16).map(lambda name, t: LAYOUTS[layout](t) if t.dim() > 1 else t))


# One element: what stood on a boundary of 16 bytes does not any more.
@pytest.mark.parametrize("before", [64, 1])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("call", ODD, ids=str)
def test_neighbours_of_the_inputs_are_never_read(host, call, dtype, before):
    """Every tensor, vectors too, in the middle of NaN gives the very same bits."""

    def guarded(name, t):
        # Dense as the kernels want it, so that nothing is copied on the way.
        dense = t.contiguous(memory_format=torch.channels_last) if t.dim() == 4 else t.contiguous()
        buffer = torch.full((t.numel() + 128,), float("nan"), dtype=t.dtype)
        return buffer.as_strided(t.shape, dense.stride(), before).copy_(dense)

    call = call.to(dtype)
    for a, b in zip(run(call.map(guarded)), run(call), strict=True):
        assert torch.equal(a, b) and not a.isnan().any()
