"""The model as users of timm know it."""

from __future__ import annotations

import copy
import pickle
from dataclasses import asdict

import pytest
import torch
from torch import nn

import effops
from effops.arch import find_arch, parts, total
from effops.errors import ArgumentError
from effops.models import create_model, model_info
from tests import peers

_BOTH_HEADS = ["efficientnet_b0", "mobilenetv3_small_050"]


def images(size: int = 33, channels: int = 3) -> torch.Tensor:
    return torch.randn(2, channels, size, size, generator=torch.Generator().manual_seed(0))


def lively(name: str, **settings) -> nn.Module:
    return peers.randomise(create_model(name, **settings))


@pytest.mark.parametrize("name", _BOTH_HEADS)
def test_features_head_and_logits_fit_together_as_in_timm(name):
    theirs = peers.randomise(peers.peer_model(name))
    ours = create_model(name).eval()
    ours.load_state_dict(theirs.state_dict())
    x = images()
    with torch.no_grad():
        features, expected = ours.forward_features(x), theirs.forward_features(x)
        torch.testing.assert_close(features, expected, rtol=1e-3, atol=1e-4)
        for pre_logits in (False, True):
            torch.testing.assert_close(
                ours.forward_head(features, pre_logits=pre_logits),
                theirs.forward_head(expected, pre_logits=pre_logits),
                rtol=1e-3,
                atol=1e-4,
            )
        torch.testing.assert_close(ours(x), ours.forward_head(features))
    assert features.shape[1] == ours.num_features
    assert ours.forward_head(features, pre_logits=True).shape == (2, ours.head_hidden_size)


@pytest.mark.parametrize("name", _BOTH_HEADS)
@pytest.mark.parametrize(("pool", "theirs"), [("avg", "avg"), ("max", "max"), ("avgmax", "avgmax")])
def test_global_pooling_is_timms(name, pool, theirs):
    peer = peers.timm().create_model(name, global_pool=theirs)
    peers.randomise(peer)
    ours = create_model(name, global_pool=pool).eval()
    ours.load_state_dict(peer.state_dict())
    with torch.no_grad():
        torch.testing.assert_close(ours(images(65)), peer(images(65)), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("name", _BOTH_HEADS)
def test_without_pooling_the_head_gives_a_map(name):
    model = lively(name, num_classes=0, global_pool="")
    with torch.no_grad():
        assert model(images(64)).shape == (2, model.head_hidden_size, 2, 2)


@pytest.mark.parametrize("name", _BOTH_HEADS)
def test_no_classes_gives_the_features(name):
    model = lively(name, num_classes=0)
    assert isinstance(model.get_classifier(), nn.Identity)
    with torch.no_grad():
        assert model(images()).shape == (2, model.head_hidden_size)


def test_a_reset_classifier_has_the_models_dtype_and_mode():
    model = lively("mobilenetv3_small_050").double()
    model.reset_classifier(7, global_pool="max")
    assert model.num_classes == 7 and model.default_cfg["num_classes"] == 7
    assert not model.get_classifier().training
    with torch.no_grad():
        assert model(images().double()).shape == (2, 7)
    model.reset_classifier(0)
    with torch.no_grad():
        assert model(images().double()).shape == (2, 1024)


def test_default_cfg_is_that_of_the_row():
    config = create_model("tf_efficientnet_lite0", in_chans=1, num_classes=10).default_cfg
    assert config == {
        "architecture": "tf_efficientnet_lite0",
        "tag": "",
        "num_classes": 10,
        "input_size": (1, 224, 224),
        "crop_pct": 0.875,
        "crop_mode": "center",
        "interpolation": "bicubic",
        "mean": (0.5, 0.5, 0.5),
        "std": (0.5, 0.5, 0.5),
        "first_conv": "conv_stem",
        "classifier": "classifier",
    }


def test_checkpointing_gives_the_same_gradients():
    model = lively("mobilenetv3_small_050").double().train()
    twin = copy.deepcopy(model)
    twin.set_grad_checkpointing()
    x = images(64).double()
    for network in (model, twin):
        network(x).square().sum().backward()
    expected = dict(model.named_parameters())
    for key, parameter in twin.named_parameters():
        torch.testing.assert_close(parameter.grad, expected[key].grad, msg=key)


def test_dropout_and_drop_path_act_in_training_alone():
    model = lively("mobilenetv3_small_050", drop_rate=0.5, drop_path_rate=0.5)
    x = images(64)
    with torch.no_grad():
        assert torch.equal(model(x), model(x))
        model.train()
        assert not torch.equal(model(x), model(x))


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))])
def test_copies_give_the_same_logits(copied):
    model = lively("mobilenetv3_small_050")
    with torch.no_grad():
        expected = model(images())
        assert torch.equal(copied(model)(images()), expected)


def test_channels_last_and_contiguous_images_give_the_same_logits():
    model = lively("mobilenetv3_small_050")
    with torch.no_grad():
        expected = model(images())
        assert torch.equal(model(images().to(memory_format=torch.channels_last)), expected)


def test_the_backend_is_the_models_own(monkeypatch):
    """It holds inside the forward only, and an unknown one is refused."""
    model = lively("mobilenetv3_small_050", backend="reference")
    seen = []
    model.blocks.register_forward_hook(
        lambda *_: seen.append(effops.explain("pointwise_conv_act", torch.zeros(1, 4, 2, 2), torch.zeros(4, 4)))
    )
    with torch.no_grad():
        model(images())
    assert [found.backend for found in seen] == ["reference"]
    with pytest.raises(ArgumentError, match=r"backend must be one of.*'quantum'"):
        create_model("mobilenetv3_small_050", backend="quantum").eval()(images())


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({"num_classes": -1}, "num_classes must be 0 .*got -1"),
        ({"in_chans": 0}, "in_chans must be at least 1; got 0"),
        ({"drop_rate": 1.5}, r"drop_rate must be in \[0, 1\); got 1.5"),
        ({"drop_path_rate": -0.1}, r"drop_path_rate must be in \[0, 1\); got -0.1"),
        ({"global_pool": "median"}, "global_pool must be one of 'avg', 'max', 'avgmax', ''; got 'median'"),
        ({"global_pool": ""}, "use num_classes=0"),
    ],
)
def test_bad_settings_are_named(settings, complaint):
    with pytest.raises(ArgumentError, match=complaint):
        create_model("mobilenetv3_small_050", **settings)


@pytest.mark.parametrize("shape", [(3, 32, 32), (1, 1, 32, 32), (1, 32, 32, 3)])
def test_images_of_the_wrong_shape_are_refused(shape):
    model = create_model("mobilenetv3_small_050").eval()
    with pytest.raises(ArgumentError, match=r"x must be \(N, 3, H, W\) for mobilenetv3_small_050"):
        model(torch.zeros(shape))


def test_batch_zero_and_one_pixel():
    model = lively("efficientnet_b0")
    with torch.no_grad():
        assert model(torch.zeros(0, 3, 33, 33)).shape == (0, 1000)
        assert model(torch.zeros(1, 3, 1, 1)).isfinite().all()


def test_model_info_adds_up():
    info = model_info("tf_mobilenetv3_large_075", resolution=192, num_classes=10)
    whole = total(parts(find_arch("tf_mobilenetv3_large_075"), resolution=192, num_classes=10))
    assert (info.params, info.macs, info.activations) == (whole.params, whole.macs, whole.activations)
    assert info.params_with_bn_stats == whole.params_with_bn_stats
    for field in ("params", "macs", "activations", "dw_macs"):
        assert sum(getattr(stage, field) for stage in info.stages) == getattr(info, field)
    assert asdict(info)["stages"][0]["name"] == "stem"
    assert (info.family, info.resolution) == ("MobileNetV3", 192)
