"""Activations, gates and their derivatives in Triton, at every kind of value."""

import pytest
import torch

from effops.ops import reference, reference_training
from effops.ops.spec import ACTIVATIONS, GATES
from effops.testing import assert_as_good_as_eager

triton = pytest.importorskip("triton")
tl = triton.language

from effops.ops.triton.activation import activate, gate_slope, gate_value, value_and_slope  # noqa: E402
from effops.ops.triton.launch import launch  # noqa: E402

_SPECIAL = (0.0, 3.0, -3.0, 6.0, 100.0, -100.0, float("inf"), -float("inf"), float("nan"))


@triton.jit
def _everything(x, out, n, ACT: tl.constexpr, GATE: tl.constexpr, BLOCK: tl.constexpr):
    i = tl.arange(0, BLOCK)
    mask = i < n
    v = tl.load(x + i, mask, 0.0)
    value, slope = value_and_slope(v, ACT)
    gate = gate_value(v, GATE)
    tl.store(out + i, activate(v, ACT), mask)
    tl.store(out + n + i, value, mask)
    tl.store(out + 2 * n + i, slope, mask)
    tl.store(out + 3 * n + i, gate, mask)
    tl.store(out + 4 * n + i, gate_slope(gate, GATE), mask)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("act", range(len(ACTIVATIONS)), ids=ACTIVATIONS)
def test_as_torch(act):
    x = torch.cat([torch.linspace(-12, 12, 1000), torch.tensor(_SPECIAL)])
    gate = act % len(GATES)
    found = torch.empty(5, len(x))
    launch(_everything, (1,), x, found, len(x), ACT=act, GATE=gate, BLOCK=1024)

    def expected(x):
        y = reference._GATES[GATES[gate]](x)
        value, slope = reference.activation(x, act), reference_training.activation_grad(x, act)
        return value, value, slope, y, reference_training.gate_grad(y, gate)

    for i, outputs in enumerate(zip(found, expected(x), expected(x.double()), strict=True)):
        finite = x.isfinite()
        assert_as_good_as_eager(*(t[finite] for t in outputs), what=f"output {i}")
        ours, eager, exact = outputs
        # At the infinities a derivative may be a limit or NaN; values are torch's in float64. In float32 they
        # depend on the processor: with AVX-512 torch's GELU of infinity is NaN.
        if i in (0, 3):
            torch.testing.assert_close(ours[~finite], exact[~finite].float(), rtol=0, atol=0, equal_nan=True)
        assert ours[x.isnan()].isnan().all() == eager[x.isnan()].isnan().all()
