"""The table, the registered ops and the C++ side tell the same story; torch's own checks of custom ops pass."""

import inspect

import pytest
import torch

import effops
from effops.ops import introspection
from effops.ops.backends import BACKENDS
from effops.ops.spec import ACTIVATIONS, GATES
from effops.ops.table import OPS
from effops.testing import kernel_samples, samples

from .layouts import LAYOUTS

OPCHECK = [s for s in samples() if s.args[0].numel() < 20_000]


def schema_call(sample):
    return introspection.prepared(sample.op, *sample.args, **sample.kwargs)


def test_every_row_is_registered():
    for op in OPS.values():
        schema = op.overload._schema
        assert [a.name for a in schema.arguments] == list(inspect.signature(op.reference).parameters)
        assert len(schema.returns) == op.schema.split("->")[1].count("Tensor")


def test_every_row_has_samples_and_known_backends():
    covered = {schema_call(sample)[0].name for sample in samples()} | {sample.op.name for sample in kernel_samples()}
    assert covered == set(OPS)
    for op in OPS.values():
        assert all(name in BACKENDS for names in op.backends.values() for name in names)
        for device, names in op.backends.items():
            if device == "cpu" and names:
                assert torch._C._dispatch_has_kernel_for_dispatch_key(f"effops::{op.name}", "CPU"), op.name


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("sample", OPCHECK, ids=str)
def test_opcheck(sample, dtype):
    op, args = schema_call(sample.to(dtype))
    torch.library.opcheck(op.overload, args)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("sample", OPCHECK[::7], ids=str)
def test_fake_has_the_strides_of_the_kernel(sample, layout):
    laid = sample.map(lambda name, t: LAYOUTS[layout](t) if t.dim() > 1 else t)
    op, args = schema_call(laid)
    real = op.overload(*args)
    with torch._subclasses.FakeTensorMode(allow_non_fake_inputs=True) as mode:
        fake = op.overload(*(mode.from_tensor(a) if isinstance(a, torch.Tensor) else a for a in args))
    real, fake = (outputs if isinstance(outputs, tuple) else (outputs,) for outputs in (real, fake))
    for r, f in zip(real, fake, strict=True):
        assert (r.shape, r.stride(), r.dtype) == (f.shape, f.stride(), f.dtype)


@pytest.mark.parametrize("sample", OPCHECK[::5], ids=str)
def test_cost_counts_the_outputs_and_the_inputs(sample):
    op, args = schema_call(sample)
    outputs = op.overload(*args)
    tensors = [*args, *(outputs if isinstance(outputs, tuple) else (outputs,))]
    least = sum(t.numel() * t.element_size() for t in tensors if isinstance(t, torch.Tensor))
    cost = op.cost(*args)
    assert least <= cost.bytes <= least + args[0].numel() * args[0].element_size()
    assert cost.macs >= 0


def test_codes_agree_with_the_kernels():
    """An order of names in Python that differs from the enumerations in C++ would swap activations silently."""
    x = torch.tensor([-1.5, 0.5, 7.0]).view(1, 1, 1, 3)
    weight = torch.ones(1, 1, 1, 1)
    for act in ACTIVATIONS:
        with effops.backend("reference"):
            want = effops.ops.pointwise_conv_act(x, weight, act=act)
        with effops.backend("cpu"):
            got = effops.ops.pointwise_conv_act(x, weight, act=act)
        torch.testing.assert_close(got, want, rtol=1e-5, atol=1e-6)
    for gate in GATES:
        weights = (torch.ones(1, 3), None, torch.ones(3, 1), None)
        with effops.backend("reference"):
            want = effops.ops.se_gate(x.view(1, 3), *weights, gate=gate)
        with effops.backend("cpu"):
            got = effops.ops.se_gate(x.view(1, 3), *weights, gate=gate)
        torch.testing.assert_close(got, want, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("dynamic", [False, True])
def test_compiles_without_a_graph_break(dynamic):
    torch._dynamo.reset()
    weight, bias = torch.randn(8, 1, 3, 3), torch.randn(8)
    pointwise = torch.randn(12, 8, 1, 1)

    def block(x):
        y, mean = effops.ops.depthwise_conv_act(x, weight, bias, stride=2, padding="same", act="silu", pool=True)
        return effops.ops.pointwise_conv_act(y, pointwise, act="relu6", gate=torch.sigmoid(mean)) * 2

    compiled = torch.compile(block, fullgraph=True, dynamic=dynamic, backend="aot_eager")
    for size in (9, 12, 15):
        x = torch.randn(2, 8, size, size + 1)
        torch.testing.assert_close(compiled(x), block(x))
