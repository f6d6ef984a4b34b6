"""Networks as backbones, beside timm's of the same name."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from effops.errors import ArgumentError
from effops.models import create_model, parameter_groups
from tests import peers

# A stem that is a map of its own, one that is not, a head after the pooling, no head at all.
_NAMES = ["mobilenetv4_conv_small_035", "efficientnet_b0", "mobilenetv3_small_050", "mobilenetv1_100"]


def images() -> Tensor:
    return torch.randn(2, 3, 65, 64, generator=torch.Generator().manual_seed(0))


def assert_same_maps(actual: list[Tensor], expected: list[Tensor]) -> None:
    assert [y.shape for y in actual] == [y.shape for y in expected]
    for y, y_peer in zip(actual, expected, strict=True):
        torch.testing.assert_close(y, y_peer, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("name", _NAMES)
@pytest.mark.parametrize("out_indices", [(0, 1, 2, 3, 4), (1, 3), (-2, -1)])
def test_feature_networks_give_timms_maps(name, out_indices):
    theirs = peers.randomise(peers.timm().create_model(name, features_only=True, out_indices=out_indices))
    ours = create_model(name, features_only=True, out_indices=out_indices).eval()
    assert list(ours.state_dict()) == list(theirs.state_dict())
    ours.load_state_dict(theirs.state_dict())
    with torch.no_grad():
        maps = ours(images())
        # timm returns the map of a negative index only where it happens to be found by its position.
        wanted = sorted(index % 5 for index in out_indices)
        every = peers.timm().create_model(name, features_only=True).eval()
        every.load_state_dict(theirs.state_dict())
        expected = every(images())
    assert_same_maps(maps, [expected[index] for index in wanted])
    info = ours.feature_info
    assert info.channels() == [y.shape[1] for y in maps]
    assert info.reduction() == [every.feature_info[index]["reduction"] for index in wanted]
    assert info.module_name() == [every.feature_info[index]["module"] for index in wanted]
    assert info.out_indices == tuple(wanted) and len(info) == 5
    assert [entry["stage"] for entry in info.get_dicts()] == [every.feature_info[i]["stage"] for i in wanted]


@pytest.mark.parametrize("name", _NAMES)
@pytest.mark.parametrize("settings", [{}, {"indices": 2}, {"indices": [0, -1]}, {"extra_blocks": True}])
def test_intermediates_are_timms(name, settings):
    theirs = peers.randomise(peers.peer_model(name))
    ours = create_model(name).eval()
    ours.load_state_dict(theirs.state_dict())
    with torch.no_grad():
        features, maps = ours.forward_intermediates(images(), **settings)
        features_peer, maps_peer = theirs.forward_intermediates(images(), **settings)
        assert_same_maps([features, *maps], [features_peer, *maps_peer])
        assert torch.equal(features, ours.forward_features(images()))
        early = ours.forward_intermediates(images(), **settings, stop_early=True, intermediates_only=True)
    assert all(torch.equal(a, b) for a, b in zip(early, maps, strict=True))


def test_stages_behind_the_last_map_do_not_run():
    ours = create_model("efficientnet_b0", features_only=True, out_indices=[1]).eval()
    ours.blocks[3].register_forward_hook(lambda *_: pytest.fail("ran a stage that nobody asked for"))
    with torch.no_grad():
        assert len(ours(images())) == 1


def test_a_feature_network_takes_a_classifiers_checkpoint(tmp_path):
    classifier = peers.randomise(create_model("mobilenetv3_small_050"))
    torch.save(classifier.state_dict(), tmp_path / "weights.pth")
    features = create_model("mobilenetv3_small_050", features_only=True, checkpoint=tmp_path / "weights.pth").eval()
    with torch.no_grad():
        assert_same_maps(features(images()), classifier.forward_intermediates(images(), intermediates_only=True))


def test_a_feature_network_trains_with_checkpointing():
    network = create_model("mobilenetv3_small_050", features_only=True).double().train()
    losses = []
    for enable in (False, True):
        network.set_grad_checkpointing(enable)
        network.zero_grad()
        sum(y.square().mean() for y in network(images().double())).backward()
        losses.append(network.conv_stem.weight.grad.clone())
    torch.testing.assert_close(*losses)


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({"features_only": True, "out_indices": [5]}, "out_indices must be from -5 to 4.*got 5"),
        ({"features_only": True, "out_indices": 6}, "out_indices as a number.*1 to 5; got 6"),
        ({"features_only": True, "out_indices": ()}, r"out_indices must name at least one of 5 maps; got \(\)"),
        ({"out_indices": [1]}, "out_indices=.* needs features_only=True"),
    ],
)
def test_wrong_indices_are_refused(settings, complaint):
    with pytest.raises(ArgumentError, match=complaint):
        create_model("efficientnet_b0", **settings)


def test_wrong_intermediates_are_refused():
    model = create_model("mobilenetv3_small_050").eval()
    with pytest.raises(ArgumentError, match="stop_early needs intermediates_only=True"):
        model.forward_intermediates(images(), stop_early=True)
    with pytest.raises(ArgumentError, match="indices must be from"):
        model.forward_intermediates(images(), [9])


@pytest.mark.parametrize("name", ["efficientnet_b0", "mobilenetv4_hybrid_medium_075"])
def test_timms_optimizers_group_the_parameters(name):
    """By the group matcher, as they do timm's own model."""
    theirs, ours = peers.peer_model(name), create_model(name)
    from timm.models import group_parameters

    for coarse in (False, True):
        expected = group_parameters(theirs, theirs.group_matcher(coarse), reverse=True)
        assert group_parameters(ours, ours.group_matcher(coarse), reverse=True).keys() == expected.keys()


def test_parameter_groups():
    network = create_model("mobilenetv3_small_050")
    groups = parameter_groups(network, lr=0.1, weight_decay=0.01, layer_decay=0.5)
    grouped = [id(parameter) for group in groups for parameter in group["params"]]
    assert sorted(grouped) == sorted(id(parameter) for parameter in network.parameters())
    by_id = {id(p): group for group in groups for p in group["params"]}
    blocks = sum(len(stage) for stage in network.blocks)
    assert by_id[id(network.classifier.weight)]["lr"] == pytest.approx(0.1)
    assert by_id[id(network.conv_head.weight)]["lr"] == pytest.approx(0.05)
    assert by_id[id(network.blocks[0][0].conv_dw.weight)]["lr"] == pytest.approx(0.1 * 0.5 ** (blocks + 1))
    assert by_id[id(network.conv_stem.weight)]["lr"] == by_id[id(network.bn1.weight)]["lr"]
    assert by_id[id(network.conv_stem.weight)]["weight_decay"] == 0.01
    assert by_id[id(network.bn1.weight)]["weight_decay"] == by_id[id(network.classifier.bias)]["weight_decay"] == 0
    assert len(parameter_groups(network, lr=0.1)) == 2
    torch.optim.SGD(groups, lr=0.1)
    with pytest.raises(ArgumentError, match=r"layer_decay must be in \(0, 1\]; got 0"):
        parameter_groups(network, lr=0.1, layer_decay=0)
