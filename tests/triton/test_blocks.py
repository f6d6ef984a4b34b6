"""Whole blocks as Triton kernels, in the interpreter: the kernels that hold the expanded tensor back, and their choice.

The op table's samples are too small for them: there the choice falls on the parts, which test_folded.py runs.
"""

import pytest
import torch

import effops
from effops.ops.spec import ACTIVATIONS
from effops.testing import KernelSample, Sample, samples
from tests.ops.layouts import LAYOUTS

from .memory import between_nans
from .parity import DTYPES, check, run

pytest.importorskip("triton")

from effops.ops.triton import fused_mbconv, mbconv
from effops.ops.triton.launch import config, recorded


def block(n, c, hidden, out, h, w, kernel, reduced=0, **kwargs):
    g = torch.Generator().manual_seed(hidden)
    shapes = ((hidden, c, 1, 1), (hidden, 1, kernel, kernel), (out, hidden, 1, 1))
    folded = [(torch.randn(s, generator=g) / s[1] ** 0.5, torch.randn(s[0], generator=g)) for s in shapes]
    if reduced:
        reduce, excite = torch.randn(reduced, hidden, generator=g) / 8, torch.randn(hidden, reduced, generator=g)
        kwargs["squeeze_excite"] = effops.ops.SqueezeExcite(reduce, None, excite, torch.randn(hidden, generator=g))
    name = f"{n}x{c}x{h}x{w}-m{hidden}-k{kernel}-se{reduced}"
    return KernelSample.of(Sample("mbconv", name, (torch.randn(n, c, h, w, generator=g), *folded), kwargs))


# Odd channels, asymmetric padding, several blocks of lanes and of channels, strips cut off; a mean of several parts.
GATED = block(2, 5, 19, 7, 19, 20, 3, reduced=3, stride=2, padding="same", act="silu")
PLAIN = block(1, 17, 33, 17, 7, 9, 3, padding=1, act="hardswish", residual=True)
DILATED = block(1, 9, 16, 8, 11, 8, 3, stride=(2, 1), dilation=(1, 2), padding=(3, 0), act="relu6")
EVEN = block(2, 3, 7, 4, 5, 6, 2, padding="same", act="gelu")
FUSED = [KernelSample.of(s) for s in samples("fused_mbconv")]
ODD_FUSED = next(s for s in FUSED if "2x13x7x5" in s.name)
ONE_OF_EACH = [GATED, PLAIN, ODD_FUSED]


@pytest.fixture
def whole(monkeypatch):
    """Blocks run whole wherever they can."""
    monkeypatch.setattr(mbconv, "pays", lambda *shape: True)
    monkeypatch.setattr(fused_mbconv, "FILLS", 1)


def _cases():
    for sample in [GATED, PLAIN, DILATED, EVEN, *FUSED]:
        # Of the networks' shapes one is enough each time: the interpreter takes seconds for each.
        slow = sample.op.name == "fused_mbconv" and sample.args[1].numel() > 25_000
        yield pytest.param(sample, marks=[pytest.mark.slow] if slow else [], id=str(sample))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("sample", list(_cases()))
def test_parity(whole, guarded_outputs, sample, dtype):
    """Outputs and workspaces start as NaN between guard bands: what is not written, or beside them, shows."""
    (y,) = check(sample.to(dtype))
    assert not y.isnan().any()


@pytest.mark.slow
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("sample", [KernelSample.of(s) for s in samples("mbconv")], ids=str)
def test_parity_of_all(whole, sample, dtype):
    check(sample.to(dtype))


@pytest.mark.parametrize("layout", [name for name in LAYOUTS if name != "contiguous"])
@pytest.mark.parametrize("sample", ONE_OF_EACH[1:], ids=str)
def test_layouts(whole, sample, layout):
    check(sample.to(torch.bfloat16).map(lambda name, t: LAYOUTS[layout](t) if t.dim() > 1 else t))


@pytest.mark.parametrize("sample", ONE_OF_EACH, ids=str)
def test_same_bits_again_between_nans_and_in_kernel_layout(whole, sample):
    def laid(name, t):
        return effops.ops.kernel_layout(t) if name.endswith("weight") else t

    (y,) = run(sample)
    for other in (sample.map(between_nans), sample.map(laid)):
        assert torch.equal(run(other)[0], y)


@pytest.mark.parametrize("value", [float("nan"), float("inf")], ids=str)
@pytest.mark.parametrize("sample", [PLAIN, ODD_FUSED], ids=str)
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_nan_passes_and_channels_that_are_not_there_make_none(whole, sample, value):
    """Infinity times the zeros that fill a tile up would be NaN."""
    x = sample.args[0].clone()
    x[0, 0, 0, 0] = value
    poisoned = KernelSample(sample.op, sample.name, (x, *sample.args[1:]))
    (actual,), (expected,) = run(poisoned), poisoned.reference()
    assert not expected.isfinite().all() and torch.equal(actual.isnan(), expected.isnan())


def kernels(sample):
    with recorded() as found:
        run(sample)
    return [launch.kernel.__name__ for launch in found]


def test_what_is_launched(whole):
    assert kernels(ODD_FUSED) == ["_fused_mbconv"]
    assert kernels(PLAIN) == ["_expand_depthwise", "_pointwise"]
    assert kernels(GATED) == ["_expand_depthwise", "_mean_of_sums", "_se_gate", "_pointwise"]


def test_small_shapes_run_as_parts():
    assert kernels(ODD_FUSED) == ["_conv", "_pointwise"]
    assert kernels(PLAIN) == ["_pointwise", "_depthwise", "_pointwise"]
    assert kernels(GATED) == ["_pointwise", "_depthwise", "_mean_of_sums", "_se_gate", "_pointwise"]


# dtype, batch, output's side, channels before, hidden and after: Fused-MBConv in one kernel, or not.
@pytest.mark.parametrize(
    ("dtype", "batch", "side", "channels", "one"),
    [
        (torch.bfloat16, 128, 96, (24, 96, 48), True),
        (torch.bfloat16, 128, 48, (64, 256, 64), True),
        (torch.bfloat16, 1, 96, (24, 96, 48), True),
        (torch.float32, 128, 48, (64, 256, 64), True),
        (torch.bfloat16, 1, 28, (96, 384, 96), False),  # 13 programs
        (torch.bfloat16, 128, 28, (128, 512, 160), False),  # the result's tile does not fit
        (torch.float32, 128, 28, (96, 384, 96), False),  # nor here, where values are twice as wide
    ],
)
def test_which_fused_blocks_run_in_one_kernel(dtype, batch, side, channels, one):
    bits = "16bit" if dtype == torch.bfloat16 else "32bit"
    chosen = config("fused_mbconv", torch.empty(0), bits)
    found = fused_mbconv.one_kernel(chosen, batch * side * side, *channels)
    assert (found is not None) == one
    if found:
        assert found.block_o >= channels[2] and -(-batch * side * side // found.block_m) >= fused_mbconv.FILLS


# dtype, batch, input's side, channels before and after, kernel, stride, activation: in one kernel with the depthwise
# convolution, or not.
@pytest.mark.parametrize(
    ("dtype", "batch", "side", "channels", "kernel", "stride", "act", "one"),
    [
        (torch.bfloat16, 128, 112, (16, 96), 3, 2, "silu", True),
        (torch.bfloat16, 128, 112, (16, 96), 3, 2, "relu6", True),
        (torch.float32, 128, 112, (16, 96), 3, 2, "silu", True),
        (torch.bfloat16, 128, 56, (24, 144), 3, 1, "silu", False),  # computed 6 times, each with an exponential
        (torch.bfloat16, 128, 56, (24, 144), 5, 2, "silu", False),
        (torch.bfloat16, 128, 14, (80, 480), 3, 2, "relu", False),  # more channels than a block of the product
        (torch.bfloat16, 1, 112, (16, 96), 3, 2, "silu", False),  # stays in L2
        (torch.float32, 128, 56, (24, 144), 3, 1, "relu6", False),  # products on float32 units
    ],
)
def test_which_expansions_run_with_their_depthwise_convolution(dtype, batch, side, channels, kernel, stride, act, one):
    bits = 16 if dtype == torch.bfloat16 else 32
    chosen = config("mbconv", torch.empty(0), f"{bits}bit-k{kernel}")
    split = mbconv.tiling(chosen, *channels, (side // stride,) * 2, kernel, kernel, stride)
    values = batch * side * side * channels[1]
    code = ACTIVATIONS.index(act)
    pays = split is not None and mbconv.pays(
        split.recomputed((side, side), channels[1]), bits // 8, values, channels, code
    )
    assert pays == one


def test_how_often_an_expanded_value_is_computed():
    """56 columns in 28 strips of 2 rows fill 24.5 blocks of 64: 25 blocks, each 5 rows of inputs by 3 columns."""
    split = mbconv.tiling(config("mbconv", torch.empty(0), "16bit-k3"), 16, 96, (56, 56), 3, 3, 2)
    assert split.recomputed((112, 112), 96) == 25 * 64 * 5 * 3 / (112 * 112)
