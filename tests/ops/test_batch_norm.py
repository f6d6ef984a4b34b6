"""Batch norm as ``torch.nn.BatchNorm2d`` means it, in the ops and in the modules."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.checkpoint import checkpoint

import effops
from effops.nn import ConvBNAct, DepthwiseConvBNAct, MBConv, PointwiseConvBNAct
from effops.testing import assert_as_good_as_eager

BATCHES = 3


def clone_state(module: nn.Module) -> dict[str, torch.Tensor]:
    return {key: value.clone() for key, value in module.state_dict().items()}


class Plain(nn.Module):
    """The same layers, module by module."""

    def __init__(self, fused: nn.Module, act: str) -> None:
        super().__init__()
        self.fused, self.act = fused, act

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        bn = self.fused.bn1 if hasattr(self.fused, "bn1") else self.fused.bn
        y = bn(self.fused.conv(x))
        return F.silu(y) if self.act == "silu" else y


MAKERS = {
    "depthwise": lambda: DepthwiseConvBNAct(6, 3, act="silu"),
    "pointwise": lambda: PointwiseConvBNAct(6, 10, act="silu"),
    "dense": lambda: ConvBNAct(6, 10, 3, stride=2, padding="same", act="silu"),
}
SETTINGS = {
    "default": {},
    "momentum 0.01": {"momentum": 0.01},
    "momentum None": {"momentum": None},
    "eps 1e-3": {"eps": 1e-3},
    "no running statistics": {"track_running_stats": False},
    "no affine": {"affine": False},
}


def pair(kind: str, setting: str) -> tuple[nn.Module, nn.Module]:
    """A fused module and its twin that runs module by module."""
    torch.manual_seed(0)
    modules = []
    for _ in range(2):
        module = MAKERS[kind]()
        name = "bn1" if hasattr(module, "bn1") else "bn"
        channels = getattr(module, name).num_features
        setattr(module, name, nn.BatchNorm2d(channels, **SETTINGS[setting]))
        modules.append(module)
    modules[1].load_state_dict(modules[0].state_dict())
    return modules[0].train(), Plain(modules[1], "silu").train()


@pytest.mark.parametrize("setting", SETTINGS)
@pytest.mark.parametrize("kind", MAKERS)
def test_three_batches_and_eval(kind, setting):
    fused, plain = pair(kind, setting)
    for i in range(BATCHES):
        x = torch.randn(4, 6, 9, 8, generator=torch.Generator().manual_seed(i))
        torch.testing.assert_close(fused(x), plain(x), rtol=1e-5, atol=1e-5)
    ours, theirs = clone_state(fused), clone_state(plain.fused)
    for key, value in theirs.items():
        torch.testing.assert_close(ours[key], value, rtol=1e-5, atol=1e-6, msg=key)
    torch.testing.assert_close(fused.eval()(x), plain.eval()(x), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", MAKERS)
def test_frozen_batch_norm(kind):
    """Batch norm in eval inside a module that trains: constants, no update, gradients for weight and bias."""
    fused, plain = pair(kind, "default")
    for module in (fused, plain):
        for norm in module.modules():
            if isinstance(norm, nn.BatchNorm2d):
                norm.eval()
                norm.running_mean.fill_(0.3)
                norm.running_var.fill_(0.7)
    before = clone_state(fused)
    x = torch.randn(2, 6, 9, 8, requires_grad=True)
    grads = []
    for module in (fused, plain):
        y = module(x)
        grads.append(
            torch.autograd.grad((y * torch.linspace(-1, 1, y.numel()).view(y.shape)).sum(), [x, *module.parameters()])
        )
    for ours, theirs in zip(*grads, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)
    assert all(torch.equal(value, before[key]) for key, value in clone_state(fused).items())


@pytest.mark.parametrize("kind", ["depthwise", "pointwise"])
def test_one_value_a_channel_raises_as_torch_does(kind):
    fused, plain = pair(kind, "default")
    x = torch.randn(1, 6, 1, 1)
    with pytest.raises(ValueError, match="Expected more than 1 value per channel when training") as theirs:
        plain(x)
    with pytest.raises(ValueError, match="Expected more than 1 value per channel when training") as ours:
        fused(x)
    assert str(ours.value).startswith(str(theirs.value).split(", got")[0])
    assert fused.bn.num_batches_tracked == 0


@pytest.mark.parametrize("reentrant", [True, False])
def test_running_statistics_move_once_under_checkpointing(reentrant):
    torch.manual_seed(0)
    block = MBConv(8, 24, 8, act="silu", se_channels=4).train()
    twin = MBConv(8, 24, 8, act="silu", se_channels=4).train()
    twin.load_state_dict(block.state_dict())
    x = torch.randn(3, 8, 7, 7, requires_grad=True)
    grads = []
    for run, module in ((lambda t: checkpoint(block, t, use_reentrant=reentrant), block), (twin, twin)):
        x.grad = None
        module.zero_grad()
        run(x).square().sum().backward()
        grads.append([x.grad.clone(), *(p.grad.clone() for p in module.parameters())])
    assert all(torch.equal(a, b) for a, b in zip(*grads, strict=True))
    ours, theirs = clone_state(block), clone_state(twin)
    assert all(torch.equal(value, ours[key]) for key, value in theirs.items())
    assert block.bn1.num_batches_tracked == 1


@pytest.mark.parametrize("data", ["far from zero", "first pixel an outlier"])
@pytest.mark.parametrize("conv", ["depthwise", "pointwise", "none"])
def test_statistics_lose_no_digits(isa, conv, data):
    """Sums of squares would lose every digit where the mean is 10,000 times the deviation, and a shift by one pixel
    many where it lies far off."""
    torch.manual_seed(0)
    x = torch.randn(4, 16, 12, 11)
    if data == "far from zero":
        x += 10_000
    else:
        x[0, :, 0, 0] = 10
    centre = torch.zeros(16, 1, 3, 3)
    centre[:, :, 1, 1] = 1
    weights = {"depthwise": centre, "pointwise": torch.eye(16)[:, :, None, None], "none": None}

    def normalised(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        var = torch.zeros(16, dtype=x.dtype)
        bn = effops.ops.BatchNorm(None, None, torch.zeros_like(var), var, momentum=1.0)
        weight = None if weights[conv] is None else weights[conv].to(x.dtype)
        return effops.ops.conv_bn_chain(x, [effops.ops.Layer(conv, weight, bn, padding=int(conv == "depthwise"))]), var

    actual, var = normalised(x)
    with effops.backend("reference"):
        (eager, eager_var), (exact, exact_var) = normalised(x), normalised(x.double())
    assert_as_good_as_eager(actual, eager, exact)
    assert_as_good_as_eager(var, eager_var, exact_var, scale=10 * exact_var.max().item())


def test_depthwise_conv_bn_act_in_eval_is_one_folded_pass():
    x, weight = torch.randn(2, 8, 9, 9), torch.randn(8, 1, 3, 3)
    mean, var, gamma, beta = torch.randn(8), torch.rand(8) + 0.5, torch.randn(8), torch.randn(8)
    y, pooled = effops.ops.depthwise_conv_bn_act(
        x, weight, mean, var, gamma, beta, padding=1, act="silu", pool=True, eps=1e-3
    )
    want = F.silu(F.batch_norm(F.conv2d(x, weight, padding=1, groups=8), mean, var, gamma, beta, eps=1e-3))
    torch.testing.assert_close(y, want, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(pooled, want.mean((2, 3)), rtol=1e-5, atol=1e-5)


def test_depthwise_conv_bn_act_in_training_updates_the_running_statistics():
    x, weight = torch.randn(2, 8, 9, 9), torch.randn(8, 1, 3, 3)
    mean, var = torch.zeros(8), torch.ones(8)
    want_mean, want_var = mean.clone(), var.clone()
    y = effops.ops.depthwise_conv_bn_act(x, weight, mean, var, padding=1, act="relu", training=True)
    u = F.conv2d(x, weight, padding=1, groups=8)
    torch.testing.assert_close(y, F.relu(F.batch_norm(u, want_mean, want_var, training=True)), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(mean, want_mean)
    torch.testing.assert_close(var, want_var)


def test_batch_zero_changes_nothing():
    module = DepthwiseConvBNAct(6, 3, act="silu").train()
    before = clone_state(module)
    x = torch.randn(0, 6, 9, 8, requires_grad=True)
    module(x).sum().backward()
    assert x.grad.shape == x.shape
    assert all(torch.equal(value, before[key]) for key, value in clone_state(module).items() if "running" in key)


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"running_mean": torch.zeros(5)}, r"running_mean must have shape \(6,\)"),
        ({"weight": torch.zeros(6, 1)}, r"bn_weight must have shape \(6,\)"),
        ({"running_var": None}, "running_mean and running_var must both be given"),
        ({"momentum": None}, "needs num_batches_tracked"),
        ({"bias": torch.zeros(6, dtype=torch.long)}, "bn_bias must be"),
    ],
)
def test_wrong_batch_norms_are_told(kwargs, message):
    given = {"weight": None, "bias": None, "running_mean": torch.zeros(6), "running_var": torch.ones(6), **kwargs}
    bn = effops.ops.BatchNorm(**given)
    with pytest.raises(effops.ArgumentError, match=message):
        effops.ops.conv_bn_chain(torch.randn(2, 6, 4, 4), [effops.ops.Layer("none", None, bn)])
