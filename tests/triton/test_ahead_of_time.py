"""Every row's Triton kernels as machine code for GPUs that are not there: they compile, fit and spill nothing."""

import re

import pytest
import torch

from effops import ops
from effops.ops import triton as triton_backend
from effops.testing import KernelSample, Sample, kernel_samples

compiler = pytest.importorskip("tests.triton.compiler", reason="Triton is not installed")


def image(n, c, size):
    return torch.empty(n, c, size, size, memory_format=torch.channels_last)


def depthwise(c, size, kernel, stride, pool=True):
    args = (image(8, c, size), torch.empty(c, 1, kernel, kernel), torch.empty(c))
    return Sample(
        "depthwise_conv_act",
        f"{c}x{size}-k{kernel}-s{stride}",
        args,
        {"stride": stride, "padding": "same", "act": "silu", "pool": pool},
    )


def pointwise(n, c, size, out, gated):
    extra = {"gate": torch.empty(n, c), "residual": image(n, out, size)} if gated else {}
    args = (image(n, c, size), torch.empty(out, c, 1, 1), torch.empty(out))
    return Sample("pointwise_conv_act", f"{n}x{c}x{size}-o{out}", args, {"act": "hardswish", **extra})


def dense(n, c, size, out, stride):
    args = (image(n, c, size), torch.empty(out, c, 3, 3), torch.empty(out))
    return Sample("conv_act", f"{n}x{c}x{size}-o{out}", args, {"stride": stride, "padding": "same", "act": "silu"})


def squeeze(n, c, reduced, size):
    weights = (torch.empty(reduced, c), torch.empty(reduced), torch.empty(c, reduced), torch.empty(c))
    return Sample("squeeze_excite", f"{n}x{c}-r{reduced}", (image(n, c, size), *weights), {})


def fused_block(n, c, hidden, out, size, stride):
    args = (image(n, c, size), (torch.empty(hidden, c, 3, 3), torch.empty(hidden)))
    kwargs = {"stride": stride, "padding": "same", "act": "silu", "residual": stride == 1 and c == out}
    project = (torch.empty(out, hidden, 1, 1), torch.empty(out))
    return Sample("fused_mbconv", f"{n}x{c}x{size}-m{hidden}-o{out}", (*args, project), kwargs)


def block(n, c, hidden, out, size, kernel, stride, act, gated=False):
    """A shape whose expansion and depthwise convolution run in one kernel."""
    expand, depthwise = torch.empty(hidden, c, 1, 1), torch.empty(hidden, 1, kernel, kernel)
    folded = [(weight, torch.empty(len(weight))) for weight in (expand, depthwise, torch.empty(out, hidden, 1, 1))]
    kwargs = {"stride": stride, "padding": "same", "act": act}
    if gated:
        reduce, excite = torch.empty(4, hidden), torch.empty(hidden, 4)
        kwargs["squeeze_excite"] = ops.SqueezeExcite(reduce, torch.empty(4), excite, torch.empty(hidden), act)
    return Sample("mbconv", f"{n}x{c}x{size}-m{hidden}-k{kernel}-s{stride}", (image(n, c, size), *folded), kwargs)


# Shapes of the networks, in the launch configurations that they get there; compiled each time, then by make test-slow.
FOLDED = [
    depthwise(96, 28, 3, 1),
    depthwise(24, 28, 3, 1, pool=False),
    pointwise(1, 480, 14, 112, gated=True),
    dense(2, 24, 56, 96, 1),
    squeeze(160, 40, 10, 4),
    fused_block(16, 64, 256, 64, 48, 1),
    block(16, 16, 96, 24, 112, 3, 2, "silu", gated=True),
]
MORE_FOLDED = [
    depthwise(240, 14, 5, 1),
    depthwise(144, 28, 3, 2, pool=False),
    depthwise(240, 14, 5, 2, pool=False),
    depthwise(32, 14, 7, 1),
    pointwise(32, 24, 28, 144, gated=False),
    pointwise(32, 144, 28, 24, gated=True),
    dense(16, 3, 64, 32, 2),
    squeeze(2, 1152, 48, 7),
    fused_block(16, 24, 96, 48, 96, 2),
    fused_block(4, 48, 192, 64, 96, 2),
    fused_block(16, 96, 384, 96, 28, 1),
    fused_block(16, 32, 32, 32, 48, 1),
    block(48, 32, 192, 64, 56, 3, 2, "relu6"),
    block(48, 16, 72, 16, 89, 3, 2, "hardswish"),
]
# Training kernels at a middling size, one sample a kind; then every activation, and larger ones.
_TRAINING = r"2x32x14x15-(silu|identity-plain)|2x32-r8-relu-|2x32x20x28|2x96x14x14x24|2x144x14x14\S+view-pooled"
_MORE_TRAINING = r"2x32x14x15|2x144x14x14|2x480x7x7x112"
# What asks for the most registers or shared memory: compiled each time in float32 too.
_LARGEST = r"(pointwise_conv|depthwise_conv|conv)_act|fused_mbconv|pointwise_conv_stats\S+gated"
_LARGEST += r"|pointwise_conv_backward\S+pooled-input"
_LARGEST += r"|depthwise_conv_stats-2x32\S+view|depthwise_conv_backward-2x32\S+view-pooled"


def _training_samples(pattern):
    for op in triton_backend.MODULES:
        found = list(kernel_samples(op))
        yield from [s for s in found if re.match(pattern, s.name)] or found[:1]


SAMPLES = [*map(KernelSample.of, FOLDED), *_training_samples(_TRAINING)]
_KNOWN = {str(sample) for sample in SAMPLES}
MORE_SAMPLES = [*map(KernelSample.of, MORE_FOLDED)]
MORE_SAMPLES += [s for s in _training_samples(_MORE_TRAINING) if str(s) not in _KNOWN]


def cases(quick=""):
    """All samples; but for the known ones that match, slow."""
    found = []
    for sample in [*SAMPLES, *MORE_SAMPLES]:
        slow = str(sample) not in _KNOWN or not re.match(quick, str(sample))
        found.append(pytest.param(sample, marks=[pytest.mark.slow] if slow else [], id=str(sample)))
    return found


def check(sample, capability):
    found = compiler.launches(sample)
    assert found, "nothing was launched"
    for launch in found:
        name = launch.kernel.__name__
        used = compiler.resources(compiler.compiled(launch, capability))
        assert used.shared <= compiler.SHARED_KIB[capability] * 1024, f"{name}: {used}"
        assert used.stack == 0, f"{name} spills registers: {used}"


def test_every_row_is_compiled():
    assert {sample.op.name for sample in SAMPLES} | {"se_gate"} == set(triton_backend.MODULES)


def test_blocks_run_whole():
    """Else the samples above would show nothing of the kernels of blocks."""
    whole = {"fused_mbconv": "_fused_mbconv", "mbconv": "_expand_depthwise"}
    for sample in map(KernelSample.of, [*FOLDED, *MORE_FOLDED]):
        if sample.op.name in whole:
            first, *_ = compiler.launches(sample.to(torch.bfloat16))
            assert first.kernel.__name__ == whole[sample.op.name], sample


def test_blocks_with_odd_channels_run_as_parts():
    """Their masked loads would spill registers on sm_100."""
    for channels, expanded in (13, 72), (16, 67):
        odd = KernelSample.of(block(48, channels, expanded, 16, 89, 3, 2, "hardswish"))
        first, *_ = compiler.launches(odd.to(torch.bfloat16))
        assert first.kernel.__name__ == "_pointwise", odd


@pytest.mark.parametrize("sample", cases())
def test_sm_90(sample):
    check(sample.to(torch.bfloat16), 90)


@pytest.mark.parametrize("sample", cases(_LARGEST))
def test_sm_90_in_float32(sample):
    check(sample, 90)


@pytest.mark.parametrize("capability", [80, 100, 120])
@pytest.mark.parametrize("sample", cases(r"pointwise_conv_act|depthwise_conv_backward-2x32\S+view-pooled"))
def test_other_architectures(sample, capability):
    check(sample.to(torch.bfloat16), capability)


def test_hopper_multiplies_by_warpgroups():
    """A matrix kernel without wgmma runs at half of the tensor cores' speed or less."""
    for sample in SAMPLES:
        for launch in compiler.launches(sample.to(torch.bfloat16)):
            if launch.kernel.__name__ in ("_pointwise", "_conv", "_fused_mbconv", "_expand_depthwise"):
                assert "wgmma.mma_async" in compiler.compiled(launch, 90).asm["ptx"], sample


def test_depthwise_reads_whole_vectors():
    """Inputs, taps and outputs move 16 bytes at a time, also where the channels are no multiple of 16."""
    for sample in SAMPLES:
        if sample.op.name == "depthwise_conv_act" and "k3" in sample.name:
            (launch,) = compiler.launches(sample.to(torch.bfloat16))
            ptx = compiler.compiled(launch, 90).asm["ptx"]
            assert ptx.count("ld.global") == ptx.count("ld.global.v4") > 0
            assert ptx.count("st.global") == ptx.count("st.global.v4") > 0
