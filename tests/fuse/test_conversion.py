"""What a conversion keeps: keys, hooks, shared modules, classes, modes, copies; and what it refuses."""

from __future__ import annotations

import copy
import io
import pickle

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrize

import effops
from effops.fuse.swap import FusedModule
from tests import peers
from tests.fuse.handwritten import FunctionalBlock, OneActivationBlock
from tests.fuse.nets import Net, close, image, modules_run, net


@pytest.fixture(scope="module")
def made() -> tuple[Net, Net, Tensor]:
    """A model, its fused twin, and what both give; tests that change it take a copy."""
    model = net()
    fused = effops.fuse(copy.deepcopy(model))
    with torch.no_grad():
        return model, fused, model(image())


def test_everything_is_fused(made):
    _, fused, expected = made
    assert [row.path for row in fused.fuse_report.fused] == ["stem", "first", "second", "third"]
    with torch.no_grad():
        close(fused(image()), expected)
    assert modules_run(fused, image()) == set()


def test_keys_classes_and_attributes_stay(made):
    model, fused, _ = made
    assert list(model.state_dict()) == list(fused.state_dict())
    assert [n for n, _ in model.named_modules()] == [n for n, _ in fused.named_modules()]
    assert isinstance(fused.first, FunctionalBlock) and type(fused.first).__name__ == "FunctionalBlock"
    assert fused.again is fused.third and fused.first.keep is True
    assert "FunctionalBlock[effops]" in repr(fused)


def test_checkpoints_move_both_ways(made):
    model, fused, expected = made
    other = effops.fuse(peers.randomise(Net(), seed=1))
    other.load_state_dict(model.state_dict())
    back = Net().eval()
    back.load_state_dict(fused.state_dict())
    with torch.no_grad():
        close(other(image()), expected)
        close(back(image()), expected)


def test_hooks_on_a_fused_block_run_once_a_call(made):
    fused = copy.deepcopy(made[1])
    seen = []
    fused.first.register_forward_pre_hook(lambda module, inputs: seen.append("before"))
    fused.first.register_forward_hook(lambda module, inputs, output: seen.append(tuple(output.shape)))
    with torch.no_grad():
        fused(image())
    assert seen == ["before", (2, 8, 9, 11)] and modules_run(fused, image()) == set()


def test_hooks_inside_a_fused_block_are_not_passed_by(made):
    fused = copy.deepcopy(made[1])
    outputs = []
    handle = fused.first.bn1.register_forward_hook(lambda module, inputs, output: outputs.append(output.shape))
    with torch.no_grad():
        close(fused(image()), made[2])
    assert outputs == [(2, 24, 9, 11)]
    assert modules_run(fused, image()) == {"first.bn1", "first.bn2", "first.bn3"}
    handle.remove()
    assert modules_run(fused, image()) == set()


def test_global_hooks_see_every_module(made):
    names = []
    handle = nn.modules.module.register_module_forward_hook(lambda m, i, o: names.append(type(m).__name__))
    try:
        with torch.no_grad():
            made[1](image())
    finally:
        handle.remove()
    assert names.count("BatchNorm2d") == 10


def halved(module: nn.Conv2d) -> None:
    class Half(nn.Module):
        def forward(self, weight: Tensor) -> Tensor:
            return weight / 2

    parametrize.register_parametrization(module, "weight", Half())


CHANGES = {
    "a replaced activation": lambda m: setattr(m.second, "relu", nn.Softplus()),
    "a replaced convolution": lambda m: setattr(m.first, "conv1", nn.Conv2d(8, 24, 1, bias=True)),
    "a parametrized weight": lambda m: halved(m.first.conv1),
    "a removed residual": lambda m: setattr(m.first, "keep", False),
    "another item in a sequence": lambda m: m.stem.append(nn.Tanh()),
    "another weight": lambda m: m.first.conv1.weight.mul_(2),
    "another eps": lambda m: setattr(m.first.bn1, "eps", 0.5),
    "a gate's other activation": lambda m: m.first.gate.layers.__setitem__(1, nn.SiLU()),
}


@pytest.mark.parametrize("change", CHANGES)
def test_what_is_changed_later_is_not_passed_by(made, change):
    model, fused = copy.deepcopy(made[0]), copy.deepcopy(made[1])
    with torch.no_grad():
        fused(image())
        for one in (model, fused):
            torch.manual_seed(1)
            CHANGES[change](one)
        expected = model(image())
        assert (expected - made[2]).abs().max() > 8e-4
        close(fused(image()), expected)


def test_training_and_eval_take_turns(made):
    """Statistics move as before, once a step, and the folded weights follow them."""
    model, fused = copy.deepcopy(made[0]), copy.deepcopy(made[1])
    for _ in range(2):
        for one in (model, fused):
            one.train()(image(4)).square().sum().backward()
            with torch.no_grad():
                for p in one.parameters():
                    p -= 1e-3 * p.grad
                one.eval()
        with torch.no_grad():
            close(fused(image()), model(image()), 1e-3)
    assert fused.first.bn1.num_batches_tracked == model.first.bn1.num_batches_tracked
    for key, value in model.state_dict().items():
        torch.testing.assert_close(fused.state_dict()[key], value, rtol=1e-3, atol=1e-3, msg=key)


def test_frozen_batch_norms_stay_frozen(made):
    model, fused = copy.deepcopy(made[0]).train(), copy.deepcopy(made[1]).train()
    grads = []
    for one in (model, fused):
        for module in one.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.eval().requires_grad_(False)
        before = {name: b.clone() for name, b in one.named_buffers()}
        one(image(4)).square().sum().backward()
        assert all(torch.equal(b, before[name]) for name, b in one.named_buffers())
        grads.append({name: p.grad for name, p in one.named_parameters() if p.grad is not None})
    assert grads[0].keys() == grads[1].keys()
    for name, grad in grads[0].items():
        torch.testing.assert_close(grads[1][name], grad, rtol=1e-3, atol=1e-3 * grad.abs().max().item(), msg=name)


def test_frozen_batch_norm_classes_are_fused():
    """torchvision's detection backbones hold batch norms whose tensors are all buffers."""
    frozen = peers.torchvision().ops.FrozenBatchNorm2d
    layer = peers.torchvision().ops.Conv2dNormActivation(3, 8, 3, norm_layer=frozen, activation_layer=nn.ReLU6)
    layer[1].running_mean.normal_()
    layer[1].weight.uniform_(1, 2)
    expected = layer(image())
    effops.fuse(layer, strict=True)
    close(layer(image()), expected)
    layer.train()
    close(layer(image()), expected)


@pytest.mark.parametrize("way", ["deepcopy", "pickle", "torch.save"])
def test_copies_are_fused_and_independent(made, way):
    fused = copy.deepcopy(made[1])
    with torch.no_grad():
        fused(image())
    if way == "deepcopy":
        twin = copy.deepcopy(fused)
    elif way == "pickle":
        twin = pickle.loads(pickle.dumps(fused))
    else:
        buffer = io.BytesIO()
        torch.save(fused, buffer)
        buffer.seek(0)
        twin = torch.load(buffer, weights_only=False)
    assert type(twin.first) is type(fused.first) and twin.again is twin.third
    with torch.no_grad():
        twin.first.conv1.weight.zero_()
        assert modules_run(twin, image()) == set()
        assert (twin(image()) - made[2]).abs().max() > 1e-3
        close(fused(image()), made[2])


def test_an_average_of_weights_stays_fused(made):
    """As timm's ModelEmaV2 keeps it: a copy whose state is moved towards the model's, in place."""
    fused = copy.deepcopy(made[1])
    ema = copy.deepcopy(fused).eval()
    with torch.no_grad():
        ema(image())
        for value, other in zip(ema.state_dict().values(), net().double().state_dict().values(), strict=True):
            value.copy_(0.5 * value + 0.5 * other.add(0.1))
        plain = effops.unfuse(copy.deepcopy(ema))
        assert modules_run(ema, image()) == set()
        close(ema(image()), plain(image()))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_other_dtypes(made, dtype):
    """bfloat16 has kernels; the others run by the modules on a CPU, exactly as before."""
    model, fused = copy.deepcopy(made[0]).to(dtype), copy.deepcopy(made[1]).to(dtype)
    with torch.no_grad():
        expected, actual = model(image().to(dtype)), fused(image().to(dtype))
    assert actual.dtype == dtype
    if dtype == torch.bfloat16:
        close(actual.float(), expected.float(), 5e-2)
        assert modules_run(fused, image().to(dtype)) == set()
    else:
        assert torch.equal(actual, expected)


def test_autocast(made):
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        close(made[1](image()).float(), made[0](image()).float(), 5e-2)


def test_unfuse_gives_back_what_was(made):
    fused = copy.deepcopy(made[1])
    assert effops.unfuse(fused) is fused
    assert not any(isinstance(module, FusedModule) for module in fused.modules())
    assert type(fused.first) is FunctionalBlock and not hasattr(fused, "fuse_report")
    assert fused.first.__dict__.keys() == made[0].first.__dict__.keys()
    with torch.no_grad():
        assert torch.equal(fused(image()), made[2])


def test_effops_own_models_are_left_as_they_are():
    model = effops.create_model("mobilenetv3_small_050", num_classes=3)
    classes = [type(module) for module in model.modules()]
    assert {row.state for row in effops.fuse(model).fuse_report.rows} == {"already fused"}
    assert classes == [type(module) for module in model.modules()]


def test_a_slice_of_a_fused_sequence_runs():
    """nn.Sequential makes its slices of its own class, which knows no program for them."""
    layers = nn.Sequential(nn.Conv2d(3, 8, 1), nn.BatchNorm2d(8), nn.ReLU(), OneActivationBlock(8, 8)).eval()
    fused = effops.fuse(copy.deepcopy(layers))
    with torch.no_grad():
        close(fused[:2](image()), layers[:2](image()))
        close(fused[3:].train().eval()(torch.ones(1, 8, 9, 9)), layers[3:](torch.ones(1, 8, 9, 9)))


def test_unbatched_and_wrong_inputs_reach_the_modules(made):
    layer = effops.fuse(nn.Sequential(nn.Conv2d(3, 8, 1), nn.ReLU()).eval())
    assert layer(torch.ones(3, 4, 4)).shape == (8, 4, 4)
    with pytest.raises(effops.ArgumentError, match="for an input with 4 channels"):
        made[1](torch.ones(1, 4, 18, 22))


def test_low_memory_mode_reaches_fused_blocks(made):
    fused = copy.deepcopy(made[1]).train()
    effops.nn.set_memory(fused, "low")
    assert fused.first.memory == "low"
    expected = copy.deepcopy(made[0]).train()(image(4))
    close(fused(image(4)), expected, 1e-3)
    assert not hasattr(effops.unfuse(fused).first, "memory")


def test_functional_loss_over_vmap_runs_the_modules(made):
    """The ops have no rule for vmap; the modules have."""
    params = dict(made[1].named_parameters())
    buffers = dict(made[1].named_buffers())

    def loss(x: Tensor) -> Tensor:
        return F.mse_loss(torch.func.functional_call(made[1], (params, buffers), x[None]), torch.zeros(1, 5))

    with torch.no_grad():
        expected = torch.stack([loss(x) for x in image()])
    torch.testing.assert_close(torch.vmap(loss)(image()), expected, rtol=1e-4, atol=1e-4)
