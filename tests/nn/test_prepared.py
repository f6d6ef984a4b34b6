"""Prepared eval calls: the second call takes a short cut, gives the same bits, and notices whatever has changed."""

from __future__ import annotations

import copy
import gc
import pickle
import threading
import weakref
from collections import OrderedDict
from collections.abc import Callable

import pytest
import torch
from torch import nn

import effops
from effops.models import create_model
from effops.nn import ConvBNAct, DepthwiseSeparable, MBConv, PointwiseConvBNAct, prepared
from effops.nn.units import UnitModule
from effops.ops import extension
from tests import peers

MAKERS: dict[str, Callable[[], UnitModule]] = {
    "mbconv": lambda: MBConv(8, 24, 8, 5, act="hardswish", se_channels=4, se_gate="hardsigmoid"),
    "separable": lambda: DepthwiseSeparable(8, 8, 3, act="relu6"),
    "dense": lambda: ConvBNAct(8, 8, 3, act="silu", padding="same"),
    "pointwise": lambda: PointwiseConvBNAct(8, 8, act="relu"),
}


def images(size: int = 9) -> torch.Tensor:
    x = torch.randn(2, 8, size, size + 1, generator=torch.Generator().manual_seed(size))
    return x.contiguous(memory_format=torch.channels_last)


def made(name: str) -> UnitModule:
    torch.manual_seed(0)
    return peers.randomise(MAKERS[name]())


def fresh(block: UnitModule, x: torch.Tensor) -> torch.Tensor:
    """The result of a copy, which has nothing prepared."""
    return copy.deepcopy(block)(x)


@pytest.fixture
def looked_at(monkeypatch) -> list[int]:
    """Counts the calls that went through the modules one by one."""
    calls: list[int] = []
    slow = UnitModule._run_units
    monkeypatch.setattr(UnitModule, "_run_units", lambda *args, **given: calls.append(1) or slow(*args, **given))
    return calls


@torch.no_grad()
@pytest.mark.parametrize("name", MAKERS)
def test_the_second_call_is_prepared_and_equal(name, looked_at):
    block, x, other = made(name), images(), images(12)
    looked_at.clear()
    first = block(x)
    assert len(looked_at) == 1
    assert torch.equal(block(x), first) and len(looked_at) == 1
    assert torch.equal(block(x.clone()), first) and len(looked_at) == 1
    assert torch.equal(block(2 * x), fresh(block, 2 * x))
    before = len(looked_at)
    y = block(other)
    assert len(looked_at) == before + 1 and torch.equal(block(other), y) and torch.equal(block(x), first)
    assert len(looked_at) == before + 1


def _conv(block: nn.Module) -> nn.Conv2d:
    return next(module for module in block.modules() if isinstance(module, nn.Conv2d))


def _norm(block: nn.Module) -> nn.BatchNorm2d:
    return [module for module in block.modules() if isinstance(module, nn.BatchNorm2d)][-1]


def _replace_conv(block: nn.Module) -> None:
    name, conv = next((name, child) for name, child in block.named_children() if isinstance(child, nn.Conv2d))
    twin = copy.deepcopy(conv)
    nn.init.ones_(twin.weight)
    setattr(block, name, twin)


class _Doubling(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return 2 * x


CHANGES: dict[str, Callable[[nn.Module], object]] = {
    "weight edited": lambda b: _conv(b).weight.mul_(1.5),
    "weight replaced": lambda b: setattr(_conv(b), "weight", nn.Parameter(torch.ones_like(_conv(b).weight))),
    "weight's data replaced": lambda b: setattr(_conv(b).weight, "data", torch.ones_like(_conv(b).weight)),
    "state loaded": lambda b: b.load_state_dict({key: value * 2 for key, value in b.state_dict().items()}),
    "statistics edited": lambda b: _norm(b).running_mean.add_(1),
    "statistics replaced": lambda b: _norm(b).register_buffer("running_var", torch.full((8,), 4.0)),
    "affine part gone": lambda b: setattr(_norm(b), "weight", None),
    "eps": lambda b: setattr(_norm(b), "eps", 1.0),
    "norm in training": lambda b: _norm(b).train(),
    "module replaced": _replace_conv,
    "norm replaced": lambda b: setattr(b, "bn1" if hasattr(b, "bn1") else "bn", _Doubling()),
    "parametrized": lambda b: nn.utils.parametrize.register_parametrization(_conv(b), "weight", _Doubling()),
    "hook": lambda b: _norm(b).register_forward_hook(lambda module, args, y: 3 * y),
    "pre-hook": lambda b: _conv(b).register_forward_pre_hook(lambda module, args: (3 * args[0],)),
    "activation": lambda b: setattr(b, "act", "gelu"),
}


@torch.no_grad()
@pytest.mark.parametrize("name", ["mbconv", "dense", "pointwise"])
@pytest.mark.parametrize("change", CHANGES)
def test_changes_are_noticed(name, change):
    block, x = made(name), images()
    before = block(x)
    block(x)
    CHANGES[change](block)
    after = block(x)
    assert not torch.equal(after, before)
    if change != "norm in training":  # whose statistics have moved by now
        assert torch.equal(after, fresh(block, x)) and torch.equal(after, block(x))


@torch.no_grad()
def test_squeeze_excite_is_part_of_the_state():
    block, x = made("mbconv"), images()
    block(x)
    block.se.conv_expand.bias.add_(1)
    assert torch.equal(block(x), fresh(block, x))
    block.se.gate = "sigmoid"
    assert torch.equal(block(x), fresh(block, x))
    block.se = nn.Identity()
    assert torch.equal(block(x), fresh(block, x))


class _Halved(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.mul_(0.5)


@torch.no_grad()
@pytest.mark.parametrize("act", ["hardswish", "gelu_tanh"])
def test_a_gate_of_another_make_is_not_passed_by(act, looked_at):
    """Not even one that gives back the tensor that it was given, changed."""
    block, x = peers.randomise(MBConv(8, 24, 8, 5, act=act)), images()
    block.se = _Halved()
    expected = fresh(block, x)
    looked_at.clear()
    for _ in range(3):
        assert torch.equal(block(x), expected)
    assert len(looked_at) == 3


@torch.no_grad()
def test_edits_of_data_are_seen_after_a_change_of_mode():
    block, x = made("mbconv"), images()
    block(x)
    block.conv_pw.weight.data.mul_(2)
    block.train()
    block.eval()
    assert torch.equal(block(x), fresh(block, x))


def test_what_surrounds_a_call_counts(looked_at):
    block, x = made("mbconv"), images()
    looked_at.clear()
    with torch.no_grad():
        y = block(x)
        with effops.backend("reference"):
            assert len(looked_at) == 1
            torch.testing.assert_close(block(x), y, rtol=1e-4, atol=1e-4)
            assert len(looked_at) == 2
        block(x)
        with torch.autocast("cpu", torch.bfloat16):
            assert block(x).dtype == torch.bfloat16
        assert block(x.double().to(torch.bfloat16).float()).dtype == torch.float32
    leaf = x.clone().requires_grad_()
    block(leaf).sum().backward()
    assert leaf.grad.abs().sum() > 0 and block.conv_pw.weight.grad.abs().sum() > 0
    with torch.no_grad():
        assert effops.explain(
            "mbconv", x, None, (torch.ones(8, 1, 3, 3), None), (torch.ones(8, 8, 1, 1), None), padding=1
        )
        with torch.inference_mode():
            assert torch.equal(block(x), y)
        strided = x.contiguous(memory_format=torch.contiguous_format)
        assert torch.equal(block(strided), y) and torch.equal(block(strided), y)
        assert block(x[:0]).shape[0] == 0 and block(x[:0]).shape[0] == 0


@torch.no_grad()
def test_copies_have_nothing_prepared():
    block, x = made("mbconv"), images()
    y = block(x)
    for twin in (copy.deepcopy(block), pickle.loads(pickle.dumps(block))):
        assert not len(twin._folds.calls) and torch.equal(twin(x), y)
        twin.conv_dw.weight.zero_()
        assert not torch.equal(twin(x), y) and torch.equal(block(x), y)


@torch.no_grad()
def test_many_sizes(looked_at):
    """The first few are prepared at once, the others when they come again; all share what they were decided from."""
    block = made("mbconv")
    looked_at.clear()
    inputs = [images(size) for size in range(6, 16)]
    expected = [fresh(block, x) for x in inputs]
    for round_, slow in enumerate((10, 6, 0, 0)):
        looked_at.clear()
        assert all(torch.equal(block(x), y) for x, y in zip(inputs, expected, strict=True))
        assert len(looked_at) == slow, round_
    block.conv_dw.weight.mul_(2)
    looked_at.clear()
    assert all(torch.equal(block(x), fresh(block, x)) for x in inputs)
    assert len(looked_at) == 20  # each of them, and each copy


def test_threads_share_a_model():
    model = peers.randomise(create_model("mobilenetv3_small_050", num_classes=10))
    batches = [torch.randn(1, 3, 33 + 2 * i, 48, generator=torch.Generator().manual_seed(i)) for i in range(4)]
    with torch.no_grad():
        expected = [copy.deepcopy(model)(x) for x in batches]
    failed: list[int] = []

    def work(i: int) -> None:
        with torch.no_grad():
            for _ in range(5):
                if not torch.equal(model(batches[i]), expected[i]):
                    failed.append(i)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(len(batches))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed


@pytest.fixture(params=["Python", "C++"])
def snapshot_of(request):
    if request.param == "Python":
        return prepared._SnapshotInPython
    if extension.module is None:
        pytest.skip(f"the kernels are not there: {extension.load_error}")
    return extension.module.Snapshot


_OF_TENSORS = torch.Tensor._version, torch.Tensor.data_ptr


class _Other(nn.Identity):
    pass


def _change_type(found: dict) -> None:
    found["module"].__class__ = _Other


@torch.no_grad()
@pytest.mark.parametrize(
    "change",
    [
        lambda found: found["dict"].update(a="other"),
        lambda found: found["dict"].update(a=copy.copy([])),
        lambda found: found["dict"].pop("a"),
        lambda found: found["dict"].update(absent=1),
        lambda found: found["other"].update(b=None),
        lambda found: found["hooks"].update({0: print}),
        lambda found: found["second hooks"].update({0: print}),
        lambda found: found["tensor"].add_(1),
        lambda found: setattr(found["tensor"], "data", torch.zeros(3)),
        lambda found: found["parameter"].data.resize_(10**6),
        _change_type,
    ],
)
def test_a_snapshot_sees_every_change(snapshot_of, change):
    found = {"dict": {"a": [], "n": None}, "other": {"b": ()}, "hooks": {}, "second hooks": OrderedDict()}
    found |= {"module": nn.Identity(), "tensor": torch.zeros(3), "parameter": nn.Parameter(torch.zeros(2))}
    places = [(found["dict"], "a"), (found["dict"], "n"), (found["dict"], "absent"), (found["other"], "b")]
    owners, keys = zip(*places, strict=True)
    objects = tuple(owner.get(key) for owner, key in places)
    hooks, tensors = (found["hooks"], found["second hooks"]), (found["tensor"], found["parameter"])
    held = owners, keys, objects, (nn.Identity(), found["module"]), hooks, tensors
    snapshot = snapshot_of(*held, *_OF_TENSORS)
    assert snapshot.holds() and snapshot.holds()
    # What is not looked at, and nothing in place of None.
    found["other"]["c"] = 1
    found["dict"].pop("n")
    assert snapshot.holds()
    change(found)
    assert not snapshot.holds()


def test_a_snapshot_refuses_tensors_without_versions(snapshot_of):
    with torch.inference_mode():
        x = torch.zeros(3)
    with pytest.raises(RuntimeError, match="Inference tensors do not track version counter"):
        snapshot_of((), (), (), (), (), (x,), *_OF_TENSORS)


@pytest.mark.skipif(extension.module is None, reason="the kernels are not there")
@pytest.mark.parametrize(
    ("given", "error", "said"),
    [
        ({"owners": ({},)}, ValueError, "must have the same length"),
        ({"owners": ([],), "keys": ("a",), "objects": (1,)}, TypeError, "owners and empty must be dictionaries"),
        ({"empty": ([],)}, TypeError, "owners and empty must be dictionaries"),
        ({"tensors": ([],)}, TypeError, "tensors must be tensors"),
        ({"version": 1}, TypeError, "neither this attribute nor this method"),
        ({"address": torch.Tensor.add_}, TypeError, "neither this attribute nor this method"),
    ],
)
def test_a_snapshot_says_what_it_is_of(given, error, said):
    names = ("owners", "keys", "objects", "modules", "empty", "tensors")
    usual = dict.fromkeys(names, ()) | dict(zip(("version", "address"), _OF_TENSORS, strict=True))
    with pytest.raises(error, match=said):
        extension.module.Snapshot(**(usual | given))


@torch.no_grad()
def test_a_block_goes_when_nobody_has_it():
    """Though what it prepared holds it, too."""
    block, x = made("mbconv"), images()
    block(x)
    assert len(block._folds.calls)
    gone = weakref.ref(block)
    del block
    gc.collect()
    assert gone() is None
