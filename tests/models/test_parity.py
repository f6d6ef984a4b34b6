"""Every model against an independent implementation: keys, counts, logits, gradients."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from effops.arch import find_arch, parts, total
from effops.models import create_model, list_models, model_info
from effops.models.weights import translate
from tests import peers
from tests.models.parity import compare

# One of every kind of block, of padding and of norm.
_QUICK = {
    "efficientnet_b0",
    "efficientnet_b0_g8_gn",
    "efficientnet_blur_b0",
    "efficientnet_es",
    "efficientnetv2_b0",
    "mobilenet_edgetpu_v2_xs",
    "mobilenet_multi_max_seg",
    "mobilenetv1_025",
    "mobilenetv2_035",
    "mobilenetv3_small_050",
    "mobilenet_v3_small",
    "mobilenetv4_conv_small_035",
    "mobilenetv4_hybrid_medium_075",
    "tf_efficientnet_cc_b0_4e",
    "tf_efficientnet_lite0",
    "tf_mobilenetv3_small_075",
}
_NAMES = [name if name in _QUICK else pytest.param(name, marks=pytest.mark.slow) for name in list_models()]
_QUICKLY_MADE = [
    pytest.param(name, marks=pytest.mark.slow) if model_info(name).params > 20e6 else name for name in list_models()
]
# Minutes of float64 gradients on the largest networks add nothing that the smaller ones of the same rows do not show.
_GRADIENTS_UP_TO = 60e6


@pytest.mark.parametrize("name", _QUICKLY_MADE)
def test_the_state_dict_is_the_peers_and_has_the_counted_parameters(name):
    """timm's: same keys in the same order, same shapes, same constants of the norms."""
    with torch.device("meta"):
        ours, theirs = create_model(name), peers.peer_model(name)
    counts = total(parts(find_arch(name)))
    assert sum(parameter.numel() for parameter in ours.parameters()) == counts.params
    assert sum(norm.running_mean.numel() + norm.running_var.numel() for norm in _batch_norms(ours)) == counts.bn_stats
    shapes, shapes_peer = _shapes(ours), _shapes(theirs)
    if peers.peer_of(name) == "timm":
        assert shapes == shapes_peer
        assert (ours.num_features, ours.head_hidden_size) == (theirs.num_features, theirs.head_hidden_size)
        keys = ("module", "num_chs", "reduction", "stage")
        ends, ends_peer = ([[end[key] for key in keys] for end in model.feature_info] for model in (ours, theirs))
        if not hasattr(theirs, "bn1"):
            # timm names a norm after the stem that its MobileNetV5 does not have.
            ends_peer[0][0] = "conv_stem.bn"
        assert ends == ends_peer
    assert len(shapes) == len(shapes_peer)
    assert _constants(ours) == _constants(theirs)


@pytest.mark.parametrize("name", _NAMES)
def test_logits_and_gradients_equal_the_peers(name):
    compare(name, gradients=model_info(name).params <= _GRADIENTS_UP_TO).check()


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


def test_drop_path_and_dropout_are_where_the_peer_has_them():
    """The rates block by block; the drawing itself is tested with the module."""
    ours = create_model("efficientnet_b0", drop_rate=0.3, drop_path_rate=0.2)
    theirs = peers.timm().create_model("efficientnet_b0", drop_rate=0.3, drop_path_rate=0.2)
    assert ours.drop_rate == theirs.drop_rate
    rates = [block.drop_path.rate for stage in ours.blocks for block in stage]
    expected = [getattr(block.drop_path, "drop_prob", 0.0) for stage in theirs.blocks for block in stage]
    assert rates == pytest.approx(expected)


@pytest.mark.parametrize("name", ["efficientnet_b0", "mobilenetv4_hybrid_medium_075", "efficientnet_cc_b0_4e"])
def test_fresh_weights_are_drawn_as_the_peer_draws_them(name):
    torch.manual_seed(0)
    ours, theirs = create_model(name), peers.peer_model(name)
    expected = theirs.state_dict()
    for key, value in ours.state_dict().items():
        if value.is_floating_point() and value.numel() > 1000:
            assert value.std().item() == pytest.approx(expected[key].std().item(), rel=0.15), key
        elif not key.endswith("weight"):
            assert torch.equal(value, expected[key]), key


def _shapes(model: nn.Module) -> list[tuple[str, torch.Size]]:
    return [(key, value.shape) for key, value in model.state_dict().items()]


def _batch_norms(model: nn.Module) -> list[nn.BatchNorm2d]:
    return [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]


def _constants(model: nn.Module) -> list[tuple[float, ...]]:
    """Of the norms in the order of the modules."""
    batch = [(norm.eps, norm.momentum) for norm in _batch_norms(model)]
    group = [(norm.eps, norm.num_groups) for norm in model.modules() if isinstance(norm, nn.GroupNorm)]
    return batch + group + [(norm.eps,) for norm in model.modules() if type(norm).__name__.startswith("RmsNorm")]
