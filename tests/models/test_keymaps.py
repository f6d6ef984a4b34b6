"""Foreign spellings: every tensor of the foreign model has its place, both ways."""

from __future__ import annotations

import pytest
import torch

from effops.arch import ARCHS
from effops.errors import ArgumentError
from effops.models import create_model, export_state_dict
from effops.models.keymaps import SPELLINGS, find_spelling
from effops.models.weights import translate
from tests import peers

_TORCHVISION = [name for name, arch in ARCHS.items() if arch.port == "torchvision"]


@pytest.mark.parametrize("name", _TORCHVISION)
def test_torchvisions_keys_are_all_known(name):
    with torch.device("meta"):
        foreign = peers.peer_model(name).state_dict()
        ours = create_model(name)
    keys = SPELLINGS["torchvision"].keys(ours.arch)
    assert set(keys) == set(foreign)
    assert sorted(keys.values()) == sorted(ours.state_dict())
    shapes = {key: value.shape for key, value in ours.state_dict().items()}
    for key, value in foreign.items():
        assert (*value.shape, 1, 1)[: len(shapes[keys[key]])] == shapes[keys[key]], key


@pytest.mark.parametrize("name", ["mobilenet_v2", "mobilenet_v3_small", "tv_efficientnet_b0", "efficientnet_v2_s"])
def test_a_model_exported_for_torchvision_loads_there_and_comes_back(name):
    ours, theirs = create_model(name), peers.peer_model(name)
    exported = export_state_dict(ours, "torchvision")
    theirs.load_state_dict(exported)
    returned = translate(ours, theirs.state_dict())
    assert returned.keys() == ours.state_dict().keys()
    for key, value in ours.state_dict().items():
        assert torch.equal(returned[key], value), key


@pytest.mark.parametrize("name", ["tf_efficientnet_lite0", "tf_efficientnet_b1"])
def test_lukemelas_keys_round_trip(name):
    model = create_model(name)
    exported = export_state_dict(model, "lukemelas")
    assert find_spelling(exported).name == "lukemelas"
    assert ("_blocks.0._se_reduce.weight" in exported) == ("lite" not in name)
    for key, value in translate(model, exported).items():
        assert torch.equal(value, model.state_dict()[key]), key


def test_the_lite0_file_has_exactly_the_mapped_keys():
    stored = torch.load(peers.lite0_checkpoint(), weights_only=True)
    assert set(SPELLINGS["lukemelas"].keys(ARCHS["tf_efficientnet_lite0"])) == set(stored)


def test_a_spelling_that_a_family_does_not_have_is_refused():
    with pytest.raises(ArgumentError, match=r"spelling must be one of timm, torchvision .*got 'lukemelas'"):
        export_state_dict(create_model("mobilenetv2_035"), "lukemelas")
