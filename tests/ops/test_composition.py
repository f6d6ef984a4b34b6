"""Training with what torch puts around it: autocast, compile, export, partial gradients, transforms."""

from __future__ import annotations

import pytest
import torch

import effops
from effops.nn import MBConv
from effops.testing import kernel_samples

from .chains import Case, cases, ramp

CASES = list(cases())
BLOCK = CASES[0]


def block(**kwargs) -> MBConv:
    torch.manual_seed(0)
    return MBConv(8, 24, 8, act="silu", se_channels=4, **kwargs).train()


@pytest.mark.parametrize("sample", [s for s in kernel_samples() if s.name.startswith(("3x13", "2x13", "0x"))], ids=str)
def test_opcheck(sample):
    torch.library.opcheck(sample.op.overload, sample.args)


def normalised(x: torch.Tensor) -> torch.Tensor:
    return effops.ops.batch_norm_act(x, None, None, act="silu")


def test_transforms_on_the_reference():
    x, direction = torch.randn(2, 2, 3, 5, 5).double().unbind()
    with effops.backend("reference"):
        _, tangent = torch.func.jvp(normalised, (x,), (direction,))
        gradient = torch.func.grad(lambda x: (normalised(x) * direction).sum())(x)
    step = 1e-6 * direction
    torch.testing.assert_close(tangent, (normalised(x + step) - normalised(x - step)) / 2e-6, rtol=1e-6, atol=1e-7)
    leaf = x.clone().requires_grad_()
    torch.testing.assert_close(gradient, torch.autograd.grad(normalised(leaf), leaf, direction)[0])


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_autocast(dtype):
    """Outputs in the autocast dtype, statistics in float32, gradients in each parameter's own dtype."""
    module = block()
    x = torch.randn(2, 8, 9, 9, requires_grad=True)
    with torch.autocast("cpu", dtype):
        y = module(x)
    assert y.dtype == dtype
    y.float().square().sum().backward()
    assert x.grad.dtype == torch.float32
    assert all(p.grad.dtype == torch.float32 and p.grad.isfinite().all() for p in module.parameters())
    assert module.bn1.running_mean.dtype == torch.float32
    twin = block()
    x2 = x.detach().clone().requires_grad_()
    twin(x2).square().sum().backward()
    torch.testing.assert_close(y.float(), twin(x2), rtol=0.1, atol=0.1)
    cosine = torch.nn.functional.cosine_similarity(x.grad.flatten(), x2.grad.flatten(), 0)
    assert cosine > 0.99


def test_autocast_keeps_squeeze_excite_in_float32():
    pooled = torch.randn(2, 8)
    weights = torch.randn(4, 8), torch.randn(4), torch.randn(8, 4), torch.randn(8)
    expected = effops.ops.se_gate(pooled, *weights)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(effops.ops.se_gate(pooled, *weights), expected)
        with effops.backend("reference"):
            assert effops.ops.se_gate(pooled, *weights).dtype == torch.float32


def test_autocast_of_the_folded_ops():
    x, weight = torch.randn(2, 8, 6, 6, requires_grad=True), torch.randn(8, 1, 3, 3, requires_grad=True)
    with torch.autocast("cpu", torch.bfloat16):
        y = effops.ops.depthwise_conv_act(x, weight, torch.randn(8), padding=1, act="silu")
        z = effops.ops.pointwise_conv_act(y, torch.randn(12, 8), act="silu", residual=torch.randn(2, 12, 6, 6))
    assert y.dtype == z.dtype == torch.bfloat16
    z.float().sum().backward()
    assert x.grad.dtype == weight.grad.dtype == torch.float32


@pytest.mark.parametrize("dynamic", [False, True])
def test_compiles_forward_and_backward_without_a_graph_break(dynamic):
    torch._dynamo.reset()
    module, twin = block(), block()
    compiled = torch.compile(module, fullgraph=True, dynamic=dynamic, backend="aot_eager")
    for size in (9, 12, 15):
        x = torch.randn(2, 8, size, size + 1)
        for run, owner in ((compiled, module), (twin, twin)):
            owner.zero_grad()
            run(x).square().sum().backward()
        for ours, theirs in zip(module.parameters(), twin.parameters(), strict=True):
            torch.testing.assert_close(ours.grad, theirs.grad)
        for ours, theirs in zip(module.buffers(), twin.buffers(), strict=True):
            torch.testing.assert_close(ours, theirs)


def test_six_resolutions_compile_at_most_twice():
    """Once for the first shape, once more with sizes as symbols."""
    torch._dynamo.reset()
    counter = torch._dynamo.testing.CompileCounterWithBackend("aot_eager")
    compiled = torch.compile(block(), fullgraph=True, backend=counter)
    for size in (8, 10, 12, 14, 16, 18):
        compiled(torch.randn(2, 8, size, size)).sum().backward()
    assert counter.frame_count <= 2


@pytest.mark.parametrize("training", [True, False])
def test_exports(training):
    module = block().train(training)
    x = torch.randn(2, 8, 10, 10)
    program = torch.export.export(module, (x,))
    twin = block().train(training)
    torch.testing.assert_close(program.module()(x), twin(x))


@pytest.mark.parametrize("case", CASES, ids=str)
def test_partial_gradients(case):
    """Each tensor alone gets the gradient that it gets among all."""

    def loss(case: Case) -> torch.Tensor:
        return sum((y * ramp(y)).sum() for y in case.forward())

    full = case.to(torch.float32)
    wanted = full.parameters()
    everything = torch.autograd.grad(loss(full), wanted)
    for i in range(len(wanted)):
        alone = case.to(torch.float32)
        for j, tensor in enumerate(alone.parameters()):
            tensor.requires_grad_(j == i)
        (grad,) = torch.autograd.grad(loss(alone), alone.parameters()[i])
        torch.testing.assert_close(grad, everything[i], rtol=1e-4, atol=1e-5 * everything[i].abs().max().item())


@pytest.mark.parametrize("how", ["sum", "cat", "slice", "expand", "channels_last", "transpose"])
def test_incoming_gradients_of_any_stride(how):
    def loss(y: torch.Tensor) -> torch.Tensor:
        ramp = torch.linspace(-1, 1, y.numel()).view(y.shape)
        return {
            "sum": lambda: y.sum(),
            "cat": lambda: (torch.cat([y, y], 1) * torch.cat([ramp, ramp + 1], 1)).sum(),
            "slice": lambda: (y[:, ::2, 1:] * ramp[:, ::2, 1:]).sum(),
            "expand": lambda: (y.mean((2, 3), keepdim=True).expand_as(y) * ramp).sum(),
            "channels_last": lambda: (y.contiguous(memory_format=torch.channels_last) * ramp).square().sum(),
            "transpose": lambda: (y.transpose(2, 3) * ramp.transpose(2, 3)).sum(),
        }[how]()

    grads = []
    for name in ("cpu", "reference"):
        case = BLOCK.to(torch.float32)
        with effops.backend(name):
            (y,) = case.forward()
            grads.append(torch.autograd.grad(loss(y), case.parameters()))
    for ours, theirs in zip(*grads, strict=True):
        # The gradient of a plain sum is zero behind a batch norm: what is left are rounding errors of its terms.
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-3 * theirs.abs().max().item() + 1e-3)


def test_backward_twice_with_a_retained_graph():
    case = BLOCK.to(torch.float32)
    (y,) = case.forward()
    first = torch.autograd.grad(y.square().sum(), case.parameters(), retain_graph=True)
    second = torch.autograd.grad(y.square().sum(), case.parameters())
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


@pytest.mark.parametrize("case", [c for c in CASES if c.name in ("mbconv-se-silu-residual", "head-pool")], ids=str)
def test_double_backward(case):
    def penalty(backend: str) -> tuple[torch.Tensor, ...]:
        c = case.to(torch.float32)
        with effops.backend(backend):
            y = c.forward()[0]
            grads = torch.autograd.grad(y.square().sum(), c.parameters(), create_graph=True)
            return torch.autograd.grad(sum(g.square().sum() for g in grads), c.parameters())

    for ours, theirs in zip(penalty("cpu"), penalty("reference"), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-2, atol=1e-3 * theirs.abs().max().item())


def test_functional_transforms_raise_clearly():
    case = BLOCK.to(torch.float32)
    with pytest.raises(RuntimeError, match=r"functorch|vmap|setup_context"):
        torch.func.vmap(lambda x: effops.ops.conv_bn_chain(x, case.layers))(torch.stack([case.x.detach()] * 2))
