"""Whole blocks in CUDA, where samples do not reach; run as one kernel wherever that is possible."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from effops.ops.spec import ACTIVATIONS, GATES, SAME
from effops.testing import KernelSample

from ..ops.blocks import block, fused
from .calls import DTYPES, check, run

_RELU, _HARDSWISH = ACTIVATIONS.index("relu"), ACTIVATIONS.index("hardswish")


@settings(max_examples=40, deadline=None)
@given(
    n=st.integers(0, 2),
    c=st.sampled_from([4, 8, 12, 16, 24, 40, 5]),
    size=st.tuples(st.integers(1, 20), st.integers(1, 20)),
    hidden=st.integers(1, 150),
    out=st.integers(1, 130),
    kernel=st.integers(1, 5),
    stride=st.integers(1, 3),
    dilation=st.integers(1, 2),
    same=st.booleans(),
    acts=st.tuples(*2 * [st.integers(0, len(ACTIVATIONS) - 1)]),
    biases=st.booleans(),
    dtype=st.sampled_from(DTYPES),
    order=st.sampled_from(["forward", "reverse", "shuffled"]),
)
def test_any_fused_block(host, n, c, size, hidden, out, kernel, stride, dilation, same, acts, biases, dtype, order):
    host.set_order(order)
    pad = SAME if same else dilation * (kernel - 1) // 2 + 1
    check(fused(n, c, size, hidden, out, kernel, stride, pad, dilation, *acts, biases).to(dtype))


@settings(max_examples=40, deadline=None)
@given(
    n=st.integers(0, 2),
    c=st.integers(1, 40),
    size=st.tuples(st.integers(1, 24), st.integers(1, 24)),
    hidden=st.integers(1, 70),
    out=st.integers(1, 40),
    kernel=st.sampled_from([3, 3, 5, 7]),
    stride=st.integers(1, 2),
    pad=st.sampled_from([SAME, 4]),
    reduced=st.sampled_from([0, 3]),
    act=st.integers(0, len(ACTIVATIONS) - 1),
    gate=st.integers(0, len(GATES) - 1),
    biases=st.booleans(),
    dtype=st.sampled_from(DTYPES),
    order=st.sampled_from(["forward", "reverse", "shuffled"]),
)
def test_any_block(host, n, c, size, hidden, out, kernel, stride, pad, reduced, act, gate, biases, dtype, order):
    host.set_order(order)
    check(block(n, c, size, hidden, out, kernel, stride, pad, reduced, act, gate, biases).to(dtype))


# Of whole 16 bytes, several tiles and several turns over hidden channels (tests/cpp/test_heuristics.cpp has these).
_TELLING = {
    "fused": lambda: fused(1, 16, (13, 13), 72, 16),
    "fused, two tiles of outputs": lambda: fused(1, 16, (13, 13), 72, 72, project_act=_HARDSWISH),
    "block": lambda: block(2, 20, (33, 30), 70, 20),
    "block with gate": lambda: block(2, 24, (17, 19), 72, 24, 5, 2, reduced=6, gate=1),
}


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("name", _TELLING)
def test_every_order_gives_the_same_bits(host, name, dtype):
    """With all inputs in the middle of NaN too, on a boundary of 16 bytes and beside it."""

    def guarded(t, before):
        dense = t.contiguous(memory_format=torch.channels_last) if t.dim() == 4 else t.contiguous()
        buffer = torch.full((t.numel() + 128,), float("nan"), dtype=t.dtype)
        return buffer.as_strided(t.shape, dense.stride(), before).copy_(dense)

    call = _TELLING[name]().to(dtype)
    host.set_order("forward")
    host.violations()
    check(call)
    first = run(call)[0]
    for order, before in (("reverse", 64), ("shuffled", 1)):
        host.set_order(order, 2)
        again = run(call.map(lambda _, t, before=before: guarded(t, before)))[0]
        assert torch.equal(again, first) and not again.isnan().any()
    assert host.violations() == 0


def test_tiles_of_many_pixels(shuffled):
    check(fused(133, 8, (13, 13), 40, 24, kernel=2, pad=SAME).to(torch.bfloat16))


def test_blocks_that_go_on_over_their_channels(shuffled):
    check(block(1056, 8, (1, 1), 64, 16, reduced=2).to(torch.bfloat16))


@pytest.mark.parametrize("call", [fused(2, 16, (9, 10), 40, 24), block(2, 16, (9, 10), 40, 16, reduced=2)], ids=str)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_parts_where_one_kernel_does_not_pay(host, call, dtype):
    """The rule as it is on a device: these are too small, and run as their parts."""
    host.fuse_what_fits(False)
    try:
        check(call.to(dtype))
    finally:
        host.fuse_what_fits(True)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("make", [fused, block])
def test_nan_and_infinity_stay_where_they_reach(host, make, dtype):
    """Channels that are computed beside the last ones carry nothing over."""
    call = make(1, 8, (12, 20), 37, 24, act=_RELU)
    args = list(call.args)
    args[0] = torch.ones(1, 8, 12, 20)
    args[0][0, 3, 2, 2], args[0][0, 4, 9, 15] = float("nan"), float("inf")
    positive = [t.abs() + 0.01 if isinstance(t, torch.Tensor) else t for t in args[1:]]
    y = run(KernelSample(call.op, "", (args[0], *positive)).to(dtype))[0]
    assert y[:, :, 1:4, 1:4].isnan().all() and (y[:, :, 8:11, 14:17] == float("inf")).all()
    assert y.isfinite().sum() == y.numel() - 2 * 9 * y.shape[1]


@pytest.mark.parametrize("layout", ["channels last", "strided"])
@pytest.mark.parametrize("make", [fused, block])
def test_weights_of_any_strides(host, make, layout):
    call = make(1, 16, (9, 10), 40, 24)

    def other(name, t):
        if not name.endswith("weight"):
            return t
        if layout == "strided":
            return torch.stack([t, t], -1)[..., 0]
        return t.contiguous(memory_format=torch.channels_last) if t.dim() == 4 else t

    assert torch.equal(run(call.map(other))[0], run(call)[0])


@pytest.mark.parametrize("make", [fused, block])
def test_wrong_weights_are_refused(host, make):
    call = make(1, 16, (9, 10), 40, 24)
    wrong = call.map(lambda name, t: t[:, :-8] if name == "project_weight" else t)
    with pytest.raises(RuntimeError, match="projection's weight must have shape"):
        run(wrong)
