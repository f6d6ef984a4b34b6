"""Every model against an independent implementation: keys, counts, logits, gradients."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

import effops
from effops.arch import find_arch, parts, total
from effops.models import create_model, list_models
from effops.models.weights import translate
from tests import peers

# Minutes of float64 on the largest networks add nothing that the smaller ones of the same rows do not show.
_SLOW = {f"{prefix}efficientnet_{size}" for prefix in ("", "tf_", "tv_") for size in ("b7", "b8", "l2")}
_NAMES = [pytest.param(name, marks=pytest.mark.slow) if name in _SLOW else name for name in list_models()]
_TIMM_NAMES = [name for name in list_models() if find_arch(name).port != "torchvision" and name != "mobilenetv2_130"]


@pytest.mark.parametrize("name", _TIMM_NAMES)
def test_the_state_dict_is_timms(name):
    """Same keys in the same order, same shapes, same batch norm constants."""
    with torch.device("meta"):
        ours, theirs = create_model(name), peers.peer_model(name)
    assert _shapes(ours) == _shapes(theirs)
    assert [(norm.eps, norm.momentum) for norm in _norms(ours)] == [
        (norm.eps, norm.momentum) for norm in _norms(theirs)
    ]
    assert (ours.num_features, ours.head_hidden_size) == (theirs.num_features, theirs.head_hidden_size)


@pytest.mark.parametrize("name", list_models())
def test_the_built_model_has_the_counted_parameters(name):
    with torch.device("meta"):
        model = create_model(name)
    counts = total(parts(find_arch(name)))
    assert sum(parameter.numel() for parameter in model.parameters()) == counts.params
    statistics = sum(norm.running_mean.numel() + norm.running_var.numel() for norm in _norms(model))
    assert statistics == counts.bn_stats


@pytest.mark.parametrize("name", _NAMES)
def test_logits_equal_the_peers(name):
    """In float64 on the reference to rounding; in float32 at most twice as far from it as the peer itself."""
    theirs = peers.randomise(peers.peer_model(name))
    ours = create_model(name).eval()
    ours.load_state_dict(translate(ours, theirs.state_dict()))
    # Odd and even, so that SAME padding is asymmetric on one axis at least.
    x = torch.randn(2, 3, 49, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        single, single_peer = ours(x), theirs(x)
        with effops.backend("reference"):
            double = ours.double()(x.double())
        double_peer = theirs.double()(x.double())
    assert double_peer.std(0).min() > 0, "the images must not give the same logits"
    assert peers.relative_error(double, double_peer) < 1e-12
    floor = 1e-6
    assert _error(single, double_peer) <= 2 * _error(single_peer, double_peer) + floor


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("tf_efficientnet_b0", "efficientnet_b0"),
        ("mobilenet_v3_large", "mobilenetv3_large_100"),
        ("tv_efficientnet_b5", "efficientnet_b5"),
    ],
)
def test_the_twin_gives_other_logits(name, wrong):
    """The comparison above would notice a wrong padding or eps."""
    theirs = peers.randomise(peers.peer_model(name))
    right, twin = create_model(name).eval(), create_model(wrong).eval()
    right.load_state_dict(translate(right, theirs.state_dict()))
    twin.load_state_dict(right.state_dict())
    x = torch.randn(1, 3, 49, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert peers.relative_error(twin(x), theirs(x)) > 1e-4


@pytest.mark.parametrize(
    "name",
    [
        "efficientnet_b0",
        "tf_efficientnet_b0",
        "tf_efficientnet_lite0",
        "mobilenetv2_100",
        "mobilenetv3_small_100",
    ],
)
def test_training_equals_the_peers(name):
    """Logits, gradients and running statistics of a training step, in float64."""
    theirs = peers.randomise(peers.peer_model(name)).double().train()
    ours = create_model(name).double().train()
    ours.load_state_dict(theirs.state_dict())
    x = torch.randn(4, 3, 49, 64, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    logits, logits_peer = ours(x), theirs(x)
    assert peers.relative_error(logits.detach(), logits_peer.detach()) < 1e-9
    # A sum of squares of a batch-normalised output would hardly depend on the weights.
    target = torch.randn(logits.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    (logits * target).sum().backward()
    (logits_peer * target).sum().backward()
    expected = {key: parameter.grad for key, parameter in theirs.named_parameters()}
    largest = max(grad.abs().max() for grad in expected.values())
    for key, parameter in ours.named_parameters():
        # A bias between two batch norms has a gradient of zero: what is there is rounding.
        scale = max(expected[key].abs().max(), 1e-6 * largest)
        assert (parameter.grad - expected[key]).abs().max() < 1e-6 * scale, key
    for key, value in theirs.state_dict().items():
        torch.testing.assert_close(ours.state_dict()[key], value, msg=key)


def test_drop_path_and_dropout_are_where_the_peer_has_them():
    """The rates block by block; the drawing itself is tested with the module."""
    ours = create_model("efficientnet_b0", drop_rate=0.3, drop_path_rate=0.2)
    theirs = peers.timm().create_model("efficientnet_b0", drop_rate=0.3, drop_path_rate=0.2)
    assert ours.drop_rate == theirs.drop_rate
    rates = [block.drop_path.rate for stage in ours.blocks for block in stage]
    expected = [getattr(block.drop_path, "drop_prob", 0.0) for stage in theirs.blocks for block in stage]
    assert rates == pytest.approx(expected)


def test_fresh_weights_are_drawn_as_the_peer_draws_them():
    torch.manual_seed(0)
    ours, theirs = create_model("efficientnet_b0"), peers.peer_model("efficientnet_b0")
    expected = theirs.state_dict()
    for key, value in ours.state_dict().items():
        if value.is_floating_point() and value.numel() > 1000:
            assert value.std().item() == pytest.approx(expected[key].std().item(), rel=0.15), key
        elif not key.endswith("weight"):
            assert torch.equal(value, expected[key]), key


def _shapes(model: nn.Module) -> list[tuple[str, torch.Size]]:
    return [(key, value.shape) for key, value in model.state_dict().items()]


def _norms(model: nn.Module) -> list[nn.BatchNorm2d]:
    return [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]


def _error(actual: Tensor, expected: Tensor) -> float:
    return peers.relative_error(actual.double(), expected)
