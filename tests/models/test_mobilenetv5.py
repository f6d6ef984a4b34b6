"""MobileNetV5 of few blocks and a quarter of the width beside timm's; the whole ones are for `make test-slow`."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

import effops
from effops.arch import Arch, Preprocessing, parts, total
from effops.arch.mobilenetv5 import mobilenet_v5
from effops.errors import ArgumentError
from effops.models import build, build_features, create_model, load, model_info, save
from effops.nn import MultiScaleFusion, units
from tests import peers
from tests.models.parity import gradient_error

# One of every kind of block that the networks have.
_ROWS = (
    ("er_r1_k3_s2_e4_c128", "er_r1_k3_s1_e4_c128"),
    ("uir_r1_a3_k5_s2_e6_c256", "uir_r1_a5_k0_s1_e4_c256"),
    ("uir_r1_a5_k5_s2_e6_c640", "mqa_r1_k3_s1_h12_d64_v2_c640", "uir_r1_a0_k0_s1_e1_c640"),
    ("uir_r1_a5_k5_s2_e6_c1280", "mqa_r1_k3_s1_h16_d96_c1280", "uir_r1_a0_k0_s1_e2_c1280"),
)
_WIDTH = 0.25


def small(padding: str = "symmetric") -> Arch:
    return replace(mobilenet_v5("small", _ROWS, Preprocessing(), _WIDTH), padding=padding)


def peer(padding: str = "symmetric", **settings: object) -> nn.Module:
    """timm's, with random norms and layer scales."""
    peers.timm()
    from timm.models._efficientnet_builder import decode_arch_def
    from timm.models.mobilenetv5 import _gen_mobilenet_v5

    rows = decode_arch_def([list(stage) for stage in _ROWS])
    pad = "same" if padding == "same" else ""
    model = _gen_mobilenet_v5("mobilenetv5_base", _WIDTH, block_args=rows, pad_type=pad, **settings)
    return peers.randomise(model)


def pair(padding: str = "symmetric") -> tuple[nn.Module, nn.Module]:
    theirs = peer(padding)
    ours = build(small(padding)).eval()
    assert list(ours.state_dict()) == list(theirs.state_dict())
    ours.load_state_dict(theirs.state_dict())
    return ours, theirs


def images(height: int = 49, width: int = 64) -> Tensor:
    return torch.randn(2, 3, height, width, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("padding", ["symmetric", "same"])
def test_logits_and_gradients_equal_timms(padding):
    ours, theirs = pair(padding)
    x = images()
    with torch.no_grad():
        expected = theirs(x)
        last = theirs(x.contiguous(memory_format=torch.channels_last))
        allowed = max(1e-5, 2 * peers.relative_error(last, expected))
        assert peers.relative_error(ours(x), expected) <= allowed
        assert peers.relative_error(ours(x.contiguous(memory_format=torch.channels_last)), expected) <= allowed
        exact = theirs.double()(x.double())
        assert peers.relative_error(ours.double()(x.double()), exact) < 1e-12
        with effops.backend("reference"):
            assert peers.relative_error(ours(x.double()), exact) < 1e-12
    assert gradient_error(ours, theirs) < 1e-6


def test_the_counts_are_those_of_the_modules():
    assert total(parts(small())).params == sum(p.numel() for p in build(small()).parameters())
    assert total(parts(small())).bn_stats == 0


@pytest.mark.parametrize("name", ["mobilenetv5_base", "mobilenetv5_300m", "mobilenetv5_300m_enc"])
def test_the_whole_networks_have_timms_tensors(name):
    with torch.device("meta"):
        ours, theirs = create_model(name), peers.peer_model(name)
    found, expected = ([(key, v.shape) for key, v in model.state_dict().items()] for model in (ours, theirs))
    assert found == expected


def test_features_equal_timms():
    ours, theirs = pair()
    network = build_features(small(), out_indices=(0, -2, -1)).eval()
    network.load_state_dict({key: v for key, v in ours.state_dict().items() if key in network.state_dict()})
    with torch.no_grad():
        expected = theirs.forward_intermediates(images(), intermediates_only=True)
        fused, maps = ours.forward_intermediates(images())
        torch.testing.assert_close(fused, theirs.forward_features(images()), rtol=1e-3, atol=1e-4)
        for y, y_peer in zip([*maps, *network(images())], [*expected, *(expected[i] for i in (0, 3, 4))], strict=True):
            torch.testing.assert_close(y, y_peer, rtol=1e-3, atol=1e-4)
    assert network.feature_info.module_name() == ["conv_stem.bn", "blocks.2", "blocks.3"]
    assert all(network.get_submodule(name) is not None for name in network.feature_info.module_name())


def test_an_encoder_gives_the_fused_map():
    """Of timm's encoder, which has no classifier and no pooling."""
    theirs = peer("same", encoder=True)
    ours = build(small("same"), num_classes=0, global_pool="").eval()
    ours.load_state_dict(theirs.state_dict())
    with torch.no_grad():
        y, expected = ours(images()), theirs(images())
    assert y.shape == (2, 2048, 16, 16)
    torch.testing.assert_close(y, expected, rtol=1e-3, atol=1e-4)


def test_the_encoder_is_one_by_its_row():
    assert model_info("mobilenetv5_300m_enc").stages[-1].out_size == 16
    with torch.device("meta"):
        assert create_model("mobilenetv5_300m_enc", num_classes=10, global_pool="avg").classifier.out_features == 10
        with pytest.raises(ArgumentError, match="classifier of 10 classes; use num_classes=0 with it, or global_pool"):
            create_model("mobilenetv5_300m_enc", num_classes=10)
        tagged = create_model("mobilenetv5_300m.gemma3n")
    assert tagged.num_classes == 0 and tagged.default_cfg["input_size"] == (3, 768, 768)


@pytest.mark.parametrize("size", [(16, 16), (32, 48), (16, 32), (4, 5), (20, 24)])
def test_the_fusion_resizes_as_timms(size):
    """Alike, by the mean of whole blocks of pixels, and by interpolation, up and down."""
    peers.timm()
    from timm.models.mobilenetv5 import MobileNetV5MultiScaleFusionAdapter

    theirs = MobileNetV5MultiScaleFusionAdapter([3, 5], 8, 16).double().eval()
    ours = MultiScaleFusion(theirs.ffn, theirs.norm, resolution=16)
    height, width = size
    maps = [torch.randn(2, 3, *size), torch.randn(2, 5, -(-height // 2), -(-width // 2))]
    maps = [y.double() for y in maps]
    torch.testing.assert_close(ours(maps), theirs(maps), rtol=0, atol=0)


def test_depthwise_and_pointwise_convolutions_run_on_ops(monkeypatch):
    """Though no op has the norm, and with a hook on a convolution that one runs by itself."""
    model, seen = build(small()).eval(), []
    for name in ("depthwise_conv_act", "pointwise_conv_act"):
        op = getattr(units, name)
        monkeypatch.setattr(units, name, lambda *args, op=op, name=name, **kw: (seen.append(name), op(*args, **kw))[1])
    with torch.no_grad():
        expected = model(images())
        depthwise = sum(conv.depthwise for conv in model.arch.convs())
        assert seen.count("depthwise_conv_act") == depthwise > 0
        assert len(seen) > 2 * depthwise
        model.blocks[1][0].dw_mid.conv.register_forward_hook(lambda *_: seen.append("hook"))
        seen.clear()
        torch.testing.assert_close(model(images()), expected, rtol=1e-4, atol=1e-5)
    assert seen.count("depthwise_conv_act") == depthwise - 1 and seen.count("hook") == 1


def test_fuse_leaves_timms_and_says_why():
    """No op has its norm: nothing that would run slower for it is touched."""
    theirs = peer()
    with torch.no_grad():
        expected = theirs(images())
        effops.fuse(theirs)
        assert torch.equal(theirs(images()), expected)
    report = theirs.fuse_report
    assert not report.fused and report.left
    assert "RmsNormAct2d" in str(report)


def test_a_hook_on_the_stem_is_seen():
    model, seen = build(small()).eval(), []
    model.conv_stem.register_forward_hook(lambda *_: seen.append(1))
    with torch.no_grad():
        model(images())
    assert seen == [1]


def test_checkpointing_gives_the_same_gradients():
    model = build(small()).double().train()
    twin = copy.deepcopy(model)
    twin.set_grad_checkpointing()
    for network in (model, twin):
        network(images(32, 32).double()).square().sum().backward()
    expected = dict(model.named_parameters())
    for key, parameter in twin.named_parameters():
        torch.testing.assert_close(parameter.grad, expected[key].grad, msg=key)


def test_a_file_loads_into_another_head_and_other_channels(tmp_path):
    ours, theirs = pair()
    save(ours, tmp_path / "weights.safetensors")
    grey = build(small(), in_chans=1, num_classes=0).eval()
    report = load(grey, tmp_path / "weights.safetensors")
    assert report.spelling == "timm" and report.adapted == ("conv_stem.conv.weight",)
    assert set(report.unused) == {"classifier.weight", "classifier.bias"}
    x = images()[:, :1]
    with torch.no_grad():
        same = theirs.forward_head(theirs.forward_features(x.expand(-1, 3, -1, -1)), pre_logits=True)
        torch.testing.assert_close(grey(x), same, rtol=1e-3, atol=1e-4)
    ours.reset_classifier(7)
    with torch.no_grad():
        assert ours(images()).shape == (2, 7)
