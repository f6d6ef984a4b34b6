"""Every row of the op table in every backend of the GPU, against the float64 reference."""

from __future__ import annotations

import pytest
import torch

import effops
from effops.ops import backends
from effops.testing import KernelSample, assert_as_good_as_eager, kernel_samples, samples
from tests.ops.layouts import LAYOUTS

DTYPES = (torch.float32, torch.bfloat16, torch.float16)


SAMPLES = [*map(KernelSample.of, samples()), *kernel_samples()]
ODD = [s for s in SAMPLES if s.name.startswith(("3x13", "2x13", "2x17"))]


def on(device: torch.device, sample: KernelSample) -> KernelSample:
    return sample.map(lambda name, t: t.to(device))


def run(backend: backends.Backend, sample: KernelSample) -> tuple[torch.Tensor, ...]:
    if reason := backends.why_not(backend, sample.op, sample.args):
        pytest.skip(reason)
    outputs = backend.run(sample.op, sample.args)
    return outputs if isinstance(outputs, tuple) else (outputs,)


def check(backend: backends.Backend, sample: KernelSample) -> None:
    actual = run(backend, sample)
    eager, exact = sample.reference(), sample.to(torch.float64).reference()
    largest = max((t.abs().max().item() for t in sample.args if isinstance(t, torch.Tensor) and t.numel()), default=0.0)
    for i, outputs in enumerate(zip(actual, eager, exact, strict=True)):
        scale = exact[0].abs().max().item() if exact[0].numel() else 0.0
        scale = scale if outputs[0].dim() == 4 else max(1.0, largest, scale**0.5) ** 2
        assert_as_good_as_eager(*outputs, what=f"{sample} output {i}", scale=scale)
        # Empty outputs stand for what was not asked for.
        if outputs[0].dim() == 4 and outputs[0].numel() and outputs[0].dtype == sample.args[0].dtype:
            assert outputs[0].is_contiguous(memory_format=torch.channels_last) or outputs[0].is_contiguous()


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("sample", SAMPLES, ids=str)
def test_parity(backend, device, sample, dtype):
    check(backend, on(device, sample.to(dtype)))


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("sample", ODD, ids=str)
def test_layouts(backend, device, sample, layout):
    laid = on(device, sample.to(torch.bfloat16)).map(lambda name, t: LAYOUTS[layout](t) if t.dim() > 1 else t)
    check(backend, laid)


@pytest.mark.parametrize("sample", ODD, ids=str)
def test_bitwise_repeatable(backend, device, sample):
    sample = on(device, sample.to(torch.bfloat16))
    first = run(backend, sample)
    for _ in range(9):
        assert all(torch.equal(a, b) for a, b in zip(run(backend, sample), first, strict=True))


@pytest.mark.parametrize("sample", ODD, ids=str)
def test_neighbours_of_the_inputs_are_never_read(backend, device, sample):
    def guarded(name, t):
        dense = t.contiguous(memory_format=torch.channels_last) if t.dim() == 4 else t.contiguous()
        buffer = torch.full((t.numel() + 128,), float("nan"), dtype=t.dtype, device=device)
        return buffer[64 : 64 + t.numel()].as_strided(t.shape, dense.stride(), 64).copy_(dense)

    sample = on(device, sample)
    for a, b in zip(run(backend, sample.map(guarded)), run(backend, sample), strict=True):
        assert torch.equal(a, b) and not a.isnan().any()


def test_more_elements_than_32_bits_count(backend, device):
    """A map of over 2^31 elements: the last pixels are right."""
    if device.type != "cuda":
        pytest.skip("takes 10 GiB")
    c, size = 64, 1024
    n = 2**31 // (c * size * size) + 1
    x = torch.zeros((n, c, size, size), dtype=torch.bfloat16, device=device, memory_format=torch.channels_last)
    x[-1, :, -8:, -8:] = torch.randn(c, 8, 8, device=device).bfloat16()
    weight = torch.randn(c, 1, 3, 3, device=device).bfloat16()
    with effops.backend(backend.name):
        y = effops.ops.depthwise_conv_act(x, weight, padding=1)
        expected = effops.ops.depthwise_conv_act(x[-1:].clone(), weight, padding=1)
    assert torch.equal(y[-1:], expected)
