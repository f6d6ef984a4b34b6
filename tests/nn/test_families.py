"""The blocks of the newer families: against plain modules, with hooks, and what they refuse."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from effops.errors import ArgumentError
from effops.nn import (
    BlurPool2d,
    CondMBConv,
    ConvBNAct,
    DepthwiseSeparable,
    FusedMBConv,
    MobileAttention,
    UniversalInvertedResidual,
)
from tests import peers

_BLOCKS = {
    "conv with residual": lambda: ConvBNAct(8, 8, 3, act="silu", residual=True),
    "conv, blur": lambda: ConvBNAct(8, 12, 3, stride=2, anti_alias="blur"),
    "separable, act at the end": lambda: DepthwiseSeparable(8, 12, 3, project_act="relu6", residual=False),
    "separable, groups": lambda: DepthwiseSeparable(8, 8, 3, group_size=4, se_channels=2),
    "fused": lambda: FusedMBConv(8, 24, 8, act="silu"),
    "fused, se": lambda: FusedMBConv(8, 24, 8, act="silu", se_channels=3),
    "fused, groups": lambda: FusedMBConv(8, 32, 8, group_size=8),
    "fused, avg": lambda: FusedMBConv(8, 24, 12, stride=2, anti_alias="avg", se_channels=3),
    "extra dw": lambda: UniversalInvertedResidual(8, 24, 8, start_kernel_size=3, layer_scale_init=0.7),
    "extra dw, blur": lambda: UniversalInvertedResidual(8, 24, 12, start_kernel_size=3, stride=2, anti_alias="blur"),
    "convnext": lambda: UniversalInvertedResidual(8, 24, 8, start_kernel_size=5, mid_kernel_size=0),
    "convnext, stride": lambda: UniversalInvertedResidual(8, 24, 12, start_kernel_size=5, mid_kernel_size=0, stride=2),
    "ffn": lambda: UniversalInvertedResidual(8, 24, 8, mid_kernel_size=0, act="gelu", layer_scale_init=0.7),
    "ffn, no op has the act": lambda: UniversalInvertedResidual(8, 24, 8, mid_kernel_size=0, act="gelu_tanh"),
    "end": lambda: UniversalInvertedResidual(8, 24, 12, mid_kernel_size=0, end_kernel_size=3, stride=2, se_channels=3),
    "attention": lambda: MobileAttention(8, 8, heads=2, key_channels=4, layer_scale_init=0.7),
    "attention, small keys": lambda: MobileAttention(8, 8, heads=2, key_channels=4, key_stride=2, padding="same"),
    "experts": lambda: CondMBConv(8, 24, 8, 3, experts=3, se_channels=2),
    "experts, same": lambda: CondMBConv(8, 24, 12, 5, experts=3, stride=2, padding="same"),
}


def made(name: str) -> nn.Module:
    torch.manual_seed(0)
    block = _BLOCKS[name]()
    for norm in (module for module in block.modules() if isinstance(module, nn.BatchNorm2d)):
        nn.init.uniform_(norm.weight, 0.5, 1.5)
        nn.init.uniform_(norm.bias, -0.5, 0.5)
        nn.init.uniform_(norm.running_var, 0.5, 1.5)
        nn.init.uniform_(norm.running_mean, -0.5, 0.5)
    return block.double()


def images() -> Tensor:
    return torch.randn(3, 8, 9, 7, dtype=torch.float64, generator=torch.Generator().manual_seed(1)).requires_grad_()


class _Hooked:
    """Hooks on every module with parameters: the modules then run one by one."""

    def __init__(self, block: nn.Module) -> None:
        self.seen = set()
        self.names = [name for name, m in block.named_modules() if isinstance(m, (nn.Conv2d, nn.BatchNorm2d))]
        for name in self.names:
            block.get_submodule(name).register_forward_hook(lambda *_, name=name: self.seen.add(name))


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("name", _BLOCKS)
def test_fused_and_module_by_module_are_the_same(name, training):
    block = made(name).train(training)
    twin = copy.deepcopy(block)
    hooked = _Hooked(twin)
    x, x_twin = images(), images()
    y, expected = block(x), twin(x_twin)
    assert hooked.seen == set(hooked.names)
    torch.testing.assert_close(y, expected)
    target = torch.randn(y.shape, dtype=y.dtype, generator=torch.Generator().manual_seed(2))
    (y * target).sum().backward()
    (expected * target).sum().backward()
    torch.testing.assert_close(x.grad, x_twin.grad)
    for (key, p), q in zip(block.named_parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(p.grad, q.grad, msg=key)
    torch.testing.assert_close(block.state_dict(), twin.state_dict())
    if not training:
        # The cached fold gives what the one that records gradients gave.
        with torch.no_grad():
            torch.testing.assert_close(block(x), expected)


def test_hooks_on_the_wrappers_of_a_universal_block_run():
    block = made("extra dw").eval()
    with torch.no_grad():
        expected = block(images())
    seen = []
    for name in ("dw_start", "pw_exp", "dw_mid", "se", "pw_proj", "dw_end", "layer_scale"):
        block.get_submodule(name).register_forward_hook(lambda *_, name=name: seen.append(name))
    with torch.no_grad():
        torch.testing.assert_close(block(images()), expected)
    assert seen == ["dw_start", "pw_exp", "dw_mid", "se", "pw_proj", "dw_end", "layer_scale"]


def test_blur_is_timms():
    peers.timm()
    from timm.layers import BlurPool2d as TimmBlurPool

    theirs = TimmBlurPool(8, pad_mode="constant").double()
    x = images()
    torch.testing.assert_close(BlurPool2d(8).double()(x), theirs(x))
    assert not BlurPool2d(8).state_dict()


def test_drop_path_drops_the_attention():
    block = MobileAttention(8, 8, heads=2, key_channels=4, drop_path=0.99).train()
    x = images().float()
    assert torch.equal(block(x), x)


@pytest.mark.parametrize(
    ("make", "complaint"),
    [
        (lambda: UniversalInvertedResidual(8, 24, 8, mid_kernel_size=0, stride=2), "all three kernel sizes are 0"),
        (lambda: FusedMBConv(8, 24, 8, stride=3, anti_alias="avg"), "anti_alias takes a stride of 2; got 3"),
        (lambda: FusedMBConv(8, 24, 8, anti_alias="box"), "anti_alias must be None, 'avg' or 'blur'; got 'box'"),
    ],
)
def test_what_cannot_be_built_is_refused(make, complaint):
    with pytest.raises(ArgumentError, match=complaint):
        make()
