"""Every training kernel, on every instruction set, in every dtype and layout, against the float64 reference."""

import pytest
import torch

from effops.testing import assert_as_good_as_eager, kernel_samples

from .layouts import LAYOUTS

SAMPLES = list(kernel_samples())


def check(sample):
    """Hold the kernel to the reference in its own dtype and in float64."""
    outputs = zip(sample.run(), sample.reference(), sample.to(torch.float64).reference(), strict=True)
    largest = max((t.abs().max().item() for t in sample.args if isinstance(t, torch.Tensor) and t.numel()), default=0.0)
    for i, (actual, eager, exact) in enumerate(outputs):
        # Sums and statistics cancel: they are rounded as their terms are, products of two values.
        scale = 0.0 if actual.dim() == 4 else max(1.0, largest) ** 2
        assert_as_good_as_eager(actual, eager, exact, what=f"{sample} output {i}", scale=scale)
        assert actual.dim() != 4 or actual.is_contiguous(memory_format=torch.channels_last) or actual.is_contiguous()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("sample", SAMPLES, ids=str)
def test_parity(isa, sample, dtype):
    check(sample.to(dtype))


ONE_OF_EACH = [sample for sample in SAMPLES if sample.name.startswith(("3x13", "2x13"))]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("sample", ONE_OF_EACH, ids=str)
def test_layouts(isa, sample, layout, dtype):
    """Of inputs and of incoming gradients: stride 0 is legal there."""
    check(sample.to(dtype).map(lambda name, t: LAYOUTS[layout](t) if t.dim() > 1 else t))


def test_bitwise_repeatable_and_independent_of_threads(isa):
    before = torch.get_num_threads()
    try:
        for sample in ONE_OF_EACH + [s for s in SAMPLES if "1152" in s.name]:
            runs = []
            for threads in (1, 2, 3, 1, 2, 3, 1, 2, 3, 1):
                torch.set_num_threads(threads)
                runs.append(sample.run())
            assert all(torch.equal(a, b) for run in runs for a, b in zip(run, runs[0], strict=True)), sample
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("sample", ONE_OF_EACH, ids=str)
def test_neighbours_of_the_inputs_are_never_read(isa, sample):
    """Every tensor, vectors too, in the middle of NaN gives the very same bits."""

    def guarded(name, t):
        # Dense as the kernels want it, so that nothing is copied on the way.
        dense = t.contiguous(memory_format=torch.channels_last) if t.dim() == 4 else t.contiguous()
        buffer = torch.full((t.numel() + 128,), float("nan"), dtype=t.dtype)
        inside = buffer[64 : 64 + t.numel()].as_strided(t.shape, dense.stride(), 64)
        return inside.copy_(dense)

    for a, b in zip(sample.map(guarded).run(), sample.run(), strict=True):
        assert torch.equal(a, b) and not a.isnan().any()
