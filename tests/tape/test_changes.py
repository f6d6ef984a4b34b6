"""A compiled model notices what changes, and stays the module that it was."""

from __future__ import annotations

import copy
import io
import pickle

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import effops
from effops.ops import extension
from tests import peers
from tests.tape.nets import close, images, made

pytestmark = pytest.mark.skipif(extension.module is None, reason="needs the CPU kernels")


@pytest.fixture(scope="module")
def pair() -> tuple[nn.Module, nn.Module]:
    """A model and its compiled twin; tests that change it take a copy."""
    model = made()
    return model, effops.compile_cpu(copy.deepcopy(model), images())


def _replaced(model):
    model.blocks[0][0] = nn.Conv2d(16, 8, 3, stride=2, padding=1)


def _moved(model):
    with torch.no_grad():
        model.blocks[1][0].conv_pw.weight.mul_(1.5)


def _swapped(model):
    model.classifier.weight.data = torch.randn_like(model.classifier.weight)


def _statistics(model):
    model.bn1.running_mean.add_(0.5)


def _loaded(model):
    model.load_state_dict(made(num_classes=1000).state_dict() | {"classifier.bias": torch.ones(1000)})


def _padded(model):
    model.conv_stem.padding = (0, 0)


def _classes(model):
    model.reset_classifier(7)


def _shared(model):
    # Storages get other memory; that which kernels read is gone.
    model.share_memory()
    model.blocks[0][0].se.conv_expand.bias.add_(1.0)


def _offloaded(model):
    for parameter in model.blocks[0][0].se.parameters():
        storage, values = parameter.untyped_storage(), parameter.clone()
        storage.resize_(0)
        storage.resize_(values.nbytes)
        parameter.copy_(values + 1)


_CHANGES = [_replaced, _moved, _swapped, _statistics, _loaded, _padded, _classes, _shared, _offloaded]


@pytest.fixture(params=[1, 2], ids=["one thread", "two threads"])
def threads(request):
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


@pytest.mark.usefixtures("threads")
@pytest.mark.parametrize("change", _CHANGES)
@torch.no_grad()
def test_changes_are_noticed(pair, change):
    model, compiled = copy.deepcopy(pair[0]), effops.compile_cpu(copy.deepcopy(pair[0]), images())
    x = images()
    before = compiled(x)
    torch.manual_seed(3)
    change(model)
    torch.manual_seed(3)
    change(compiled)
    want = model(x)
    assert want.shape != before.shape or (want - before).abs().max() > 1e-4 * want.abs().max()
    for _ in range(2):
        close(compiled(x), want)


@torch.no_grad()
def test_hooks_inside_run(pair):
    compiled = effops.compile_cpu(copy.deepcopy(pair[0]), images())
    x = images()
    seen = []
    handle = compiled.blocks[1][0].register_forward_hook(lambda module, args, y: seen.append(y.shape))
    close(compiled(x), pair[0](x))
    assert len(seen) == 1
    with pytest.raises(effops.ArgumentError, match=r"blocks\.1\.0 has hooks"):
        effops.compile_cpu(compiled, x)
    seen.clear()
    handle.remove()
    compiled.register_forward_hook(lambda module, args, y: y * 2)
    close(compiled(x), 2 * pair[0](x))
    close(compiled(x), 2 * pair[0](x))
    assert seen == []


def test_gradients_autocast_and_backends(pair):
    model, compiled = pair
    x = images().requires_grad_()
    compiled(x).sum().backward()
    grad, x.grad = x.grad, None
    model(x).sum().backward()
    close(grad, x.grad)
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(compiled(images()), model(images()))
    with torch.no_grad(), effops.backend("reference"):
        assert torch.equal(compiled(images()), model(images()))


def test_training_goes_on(pair):
    model, compiled = copy.deepcopy(pair[0]), effops.compile_cpu(copy.deepcopy(pair[0]), images())
    for one in (model, compiled):
        torch.manual_seed(0)
        one.train()
        optimizer = torch.optim.SGD(one.parameters(), lr=0.01)
        F.cross_entropy(one(images()), torch.tensor([1, 2])).backward()
        optimizer.step()
        one.eval()
    with torch.no_grad():
        for _ in range(2):
            close(compiled(images()), model(images()))


def test_copies_pickles_and_keys(pair):
    model, compiled = pair
    x = images()
    assert list(compiled.state_dict()) == list(model.state_dict())
    assert isinstance(compiled, type(model)) and type(compiled).__name__ == type(model).__name__
    file = io.BytesIO()
    torch.save(compiled, file)
    file.seek(0)
    twins = [copy.deepcopy(compiled), pickle.loads(pickle.dumps(compiled)), torch.load(file, weights_only=False)]
    with torch.no_grad():
        want = compiled(x)
        for twin in twins:
            assert len(twin._tapes.calls) == 0
            assert torch.equal(twin(x), want)
            assert len(twin._tapes.calls) == 1
    back = effops.uncompile(copy.deepcopy(compiled))
    assert type(back) is type(model) and "_tapes" not in back.__dict__
    with torch.no_grad():
        assert torch.equal(back(x), model(x))


@torch.no_grad()
def test_models_of_other_libraries_are_fused_first():
    model = peers.randomise(peers.timm().create_model("mobilenetv3_small_050"))
    x = images()
    want = model(x)
    compiled = effops.compile_cpu(model, x)
    assert compiled.compile_report.torch == {}
    close(compiled(x), want)
    twin = pickle.loads(pickle.dumps(compiled))
    close(twin(x), want)
    effops.uncompile(compiled)
    assert "effops" in repr(compiled.blocks[0])
    effops.unfuse(compiled)
    assert "effops" not in repr(compiled)
