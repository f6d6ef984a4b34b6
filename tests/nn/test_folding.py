"""Folded weights: right, cached, and never stale."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from torch import nn

from effops import create_model
from effops.nn import ConvBNAct, DepthwiseConvBNAct, MBConv, PointwiseConvBNAct
from effops.nn.folding import FoldingModule, fold_batch_norm


def block(**settings) -> MBConv:
    torch.manual_seed(0)
    module = MBConv(16, 48, 16, se_channels=4, act="silu", **settings)
    return _with_statistics(module).eval()


def _with_statistics(module: nn.Module) -> nn.Module:
    for norm in module.modules():
        if isinstance(norm, nn.BatchNorm2d):
            nn.init.uniform_(norm.weight, 0.5, 1.5)
            nn.init.normal_(norm.bias)
            nn.init.normal_(norm.running_mean)
            nn.init.uniform_(norm.running_var, 0.5, 1.5)
    return module


def unfused(module: nn.Module, x: torch.Tensor) -> torch.Tensor:
    """The same weights through torch's own modules: blocks on their training path, batch norm in eval."""
    plain = copy.deepcopy(module)
    for child in plain.modules():
        child.training = not isinstance(child, nn.BatchNorm2d)
    return plain(x)


def images(**settings) -> torch.Tensor:
    return torch.randn(2, 16, 9, 7, generator=torch.Generator().manual_seed(1), **settings)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("affine", [False, True])
def test_the_folded_convolution_is_convolution_and_norm(dtype, bias, affine):
    torch.manual_seed(0)
    conv = nn.Conv2d(5, 7, 3, bias=bias, dtype=dtype)
    bn = nn.BatchNorm2d(7, affine=affine, dtype=dtype).eval()
    nn.init.normal_(bn.running_mean)
    nn.init.uniform_(bn.running_var, 0.5, 1.5)
    x = torch.randn(2, 5, 6, 6, dtype=dtype)
    weight, shift = fold_batch_norm(conv, bn)
    torch.testing.assert_close(nn.functional.conv2d(x, weight, shift), bn(conv(x)))


def test_half_weights_fold_in_float32():
    """The product is rounded once, to the weight's dtype; the bias stays in float32."""
    conv, bn = nn.Conv2d(8, 8, 1, bias=False), nn.BatchNorm2d(8).eval()
    nn.init.uniform_(bn.running_var, 1e-4, 2e-4)
    nn.init.normal_(bn.running_mean)
    weight, shift = fold_batch_norm(conv.bfloat16(), bn.bfloat16())
    exact, exact_shift = fold_batch_norm(copy.deepcopy(conv).double(), copy.deepcopy(bn).double())
    assert weight.dtype == torch.bfloat16 and shift.dtype == torch.float32
    torch.testing.assert_close(weight, exact.bfloat16(), rtol=2**-8, atol=0)
    torch.testing.assert_close(shift.double(), exact_shift, rtol=1e-5, atol=1e-5)


def _optimizer_step(module: nn.Module) -> None:
    optimizer = torch.optim.SGD(module.parameters(), lr=0.1)
    module(images()).square().mean().backward()
    optimizer.step()


def _load_state_dict(module: nn.Module) -> None:
    module.load_state_dict({key: value * 1.5 for key, value in module.state_dict().items()})


def _edit_in_place(module: nn.Module) -> None:
    with torch.no_grad():
        module.conv_dw.weight.mul_(2)


def _edit_the_bias_of_a_norm(module: nn.Module) -> None:
    with torch.no_grad():
        module.bn3.bias.add_(1)


def _edit_statistics(module: nn.Module) -> None:
    module.bn2.running_var.mul_(2)


def _change_eps(module: nn.Module) -> None:
    module.bn1.eps = 0.5


def _replace_a_parameter(module: nn.Module) -> None:
    module.conv_pw.weight = nn.Parameter(module.conv_pw.weight.detach() * 2)


def _replace_data(module: nn.Module) -> None:
    """Twice, so that an address may come back."""
    for _ in range(2):
        module.conv_pw.weight.data = module.conv_pw.weight.data * 2


def _replace_a_convolution(module: nn.Module) -> None:
    module.conv_pwl = nn.Conv2d(48, 16, 1, bias=False)


def _train_for_a_step(module: nn.Module) -> None:
    module.train()
    module(images())
    module.eval()


def _train_one_norm(module: nn.Module) -> None:
    """Batch norm in training does not raise the version of its statistics."""
    module.bn2.train()
    module(images())
    module.bn2.eval()


def _edit_data_and_eval(module: nn.Module) -> None:
    """``.data`` hides an edit from the version counter; ``eval()`` starts anew."""
    module.conv_pw.weight.data.mul_(2)
    module.eval()


def _to_other_dtype_and_back(module: nn.Module) -> None:
    module.bfloat16().float()


@pytest.mark.parametrize(
    "change",
    [
        _optimizer_step,
        _load_state_dict,
        _edit_in_place,
        _edit_the_bias_of_a_norm,
        _edit_statistics,
        _change_eps,
        _replace_a_parameter,
        _replace_data,
        _replace_a_convolution,
        _train_for_a_step,
        _train_one_norm,
        _edit_data_and_eval,
        _to_other_dtype_and_back,
    ],
)
def test_folding_follows_every_change(change):
    module = block()
    x = images()
    with torch.no_grad():
        before = module(x)
    change(module)
    with torch.no_grad():
        after = module(x)
        torch.testing.assert_close(after, unfused(module, x), rtol=1e-4, atol=1e-4)
    assert not torch.equal(before, after)


def test_folds_once_while_nothing_changes():
    module = block()
    with torch.no_grad():
        module(images())
        first = module._folds.get("conv_dw", module.conv_dw, module.bn2)
        module(images())
        assert module._folds.get("conv_dw", module.conv_dw, module.bn2) is first


def test_folded_weights_are_in_the_kernels_layout():
    module = block()
    with torch.no_grad():
        depthwise, pointwise = (
            module._folds.get("conv_dw", module.conv_dw, module.bn2)[0],
            module._folds.get("conv_pw", module.conv_pw, module.bn1)[0],
        )
    assert depthwise.stride(0) == 1
    assert pointwise.stride(0) == 1


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_a_cache_filled_without_gradients_serves_calls_that_need_them(mode):
    module = block().requires_grad_(False)
    with mode():
        expected = module(images()).clone()
    x = images().requires_grad_()
    y = module(x)
    torch.testing.assert_close(y.detach(), expected)
    y.sum().backward()
    assert x.grad.abs().sum() > 0


def test_inference_tensors_are_never_cached():
    """They have no version counter, so an edit could not be seen."""
    with torch.inference_mode():
        module = block()
        before = module(images())
        module.conv_pw.weight.mul_(2)
        after = module(images())
        assert not torch.equal(before, after)
        torch.testing.assert_close(after, unfused(module, images()), rtol=1e-4, atol=1e-4)


def test_in_eval_gradients_reach_convolutions_and_norms():
    module = block()
    plain = copy.deepcopy(module)
    for child in plain.modules():
        child.training = not isinstance(child, nn.BatchNorm2d)
    x, x_plain = images().requires_grad_(), images().requires_grad_()
    module(x).square().sum().backward()
    plain(x_plain).square().sum().backward()
    torch.testing.assert_close(x.grad, x_plain.grad, rtol=1e-3, atol=1e-3)
    expected = dict(plain.named_parameters())
    for name, parameter in module.named_parameters():
        torch.testing.assert_close(parameter.grad, expected[name].grad, rtol=1e-3, atol=1e-2, msg=name)


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda module: pickle.loads(pickle.dumps(module))])
def test_copies_hold_no_folded_weights_and_live_on_their_own(copied):
    module = block()
    with torch.no_grad():
        expected = module(images())
        twin = copied(module)
        assert not twin._folds._entries
        torch.testing.assert_close(twin(images()), expected, rtol=0, atol=0)
        twin.conv_pw.weight.mul_(2)
        assert not torch.equal(twin(images()), expected)
        torch.testing.assert_close(module(images()), expected, rtol=0, atol=0)


def test_the_state_holds_unfolded_tensors_alone():
    module = block()
    keys = set(module.state_dict())
    with torch.no_grad():
        module(images())
    assert set(module.state_dict()) == keys
    assert keys == {
        *(f"{conv}.weight" for conv in ("conv_pw", "conv_dw", "conv_pwl", "se.conv_reduce", "se.conv_expand")),
        *(f"se.{conv}.bias" for conv in ("conv_reduce", "conv_expand")),
        *(
            f"bn{i}.{leaf}"
            for i in (1, 2, 3)
            for leaf in ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
        ),
    }


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_other_dtypes(dtype):
    module = block()
    with torch.no_grad():
        expected = module(images())
        actual = module.to(dtype)(images().to(dtype))
    assert actual.dtype == dtype
    tolerance = {torch.bfloat16: 0.1, torch.float16: 0.02, torch.float64: 1e-4}[dtype]
    torch.testing.assert_close(actual.float(), expected, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("name", ["conv_pw", "bn2", "se", "se.conv_reduce", "conv_pwl"])
def test_hooks_on_inner_modules_run(name):
    """A hook needs the module's own output, so the block leaves the fused path."""
    module, seen = block(), []
    handle = module.get_submodule(name).register_forward_hook(lambda _module, _args, output: seen.append(output))
    with torch.no_grad():
        hooked = module(images())
        handle.remove()
        torch.testing.assert_close(hooked, module(images()), rtol=1e-4, atol=1e-4)
    assert len(seen) == 1


def test_a_parametrized_convolution_is_respected():
    class Double(nn.Module):
        def forward(self, weight: torch.Tensor) -> torch.Tensor:
            return 2 * weight

    module = block()
    torch.nn.utils.parametrize.register_parametrization(module.conv_pw, "weight", Double())
    with torch.no_grad():
        actual = module(images())
        torch.nn.utils.parametrize.remove_parametrizations(module.conv_pw, "weight")
        torch.testing.assert_close(actual, module(images()), rtol=1e-4, atol=1e-4)


def test_a_norm_without_statistics_uses_the_batch():
    module = block()
    module.bn2 = nn.BatchNorm2d(48, track_running_stats=False).eval()
    with torch.no_grad():
        torch.testing.assert_close(module(images()), unfused(module, images()), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    "module",
    [
        ConvBNAct(16, 8, 3, stride=2, padding="same", act="hardswish"),
        ConvBNAct(16, 8, 1, act="relu"),
        DepthwiseConvBNAct(16, 5, dilation=2, act="relu6"),
        DepthwiseConvBNAct(16, 3, stride=2, padding="same", act="silu"),
        PointwiseConvBNAct(16, 24, act="gelu"),
    ],
    ids=["dense", "dense 1x1", "dilated", "same", "pointwise"],
)
def test_single_layers_fuse_to_what_they_train_as(module):
    _with_statistics(module).eval()
    with torch.no_grad():
        torch.testing.assert_close(module(images()), unfused(module, images()), rtol=1e-4, atol=1e-4)


def test_functional_call_uses_the_tensors_it_is_given():
    module = block()
    doubled = {key: value * 2 for key, value in module.state_dict().items() if value.is_floating_point()}
    with torch.no_grad():
        module(images())
        actual = torch.func.functional_call(module, doubled, (images(),))
        module.load_state_dict(doubled, strict=False)
        torch.testing.assert_close(actual, module(images()))


def test_a_compiled_block_folds_in_its_graph():
    """Without the cache, so that later changes are followed there too."""
    module = block()
    compiled = torch.compile(module, backend="eager", fullgraph=True)
    with torch.no_grad():
        torch.testing.assert_close(compiled(images()), module(images()))
        module.conv_dw.weight.mul_(2)
        torch.testing.assert_close(compiled(images()), module(images()))


def test_a_model_made_in_inference_mode_folds_once():
    with torch.inference_mode():
        model = create_model("mobilenetv3_small_075").eval()
        x = torch.randn(1, 3, 32, 32)
        first = model(x)
        entries = {id(m): dict(m._folds._entries) for m in model.modules() if isinstance(m, FoldingModule)}
        assert any(entries.values())
        assert torch.equal(model(x), first)
    for m in model.modules():
        if isinstance(m, FoldingModule):
            assert m._folds._entries == entries[id(m)]
