"""Checkpoint files: what loads, and every way in which one is refused."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from safetensors.torch import save_file

from effops.arch import find_arch
from effops.errors import CheckpointError
from effops.models import build, create_model, export_state_dict, load, save
from tests import peers


@pytest.fixture(scope="module")
def source():
    torch.manual_seed(1)
    return create_model("mobilenetv3_small_050")


@pytest.fixture
def path(tmp_path):
    return tmp_path / "weights.pth"


def assert_same_state(model, expected):
    assert model.state_dict().keys() == expected.keys()
    for key, value in model.state_dict().items():
        assert torch.equal(value, expected[key]), key


@pytest.mark.parametrize(
    "wrap",
    [
        lambda state: state,
        lambda state: {"state_dict": state, "epoch": 3},
        lambda state: {"model": {f"module.{key}": value for key, value in state.items()}},
        lambda state: {f"_orig_mod.module.{key}": value for key, value in state.items()},
        lambda state: {"state_dict": {"broken": 1}, "state_dict_ema": state},
        lambda state: {key: value for key, value in state.items() if "num_batches_tracked" not in key},
    ],
    ids=["plain", "state_dict", "model, module.", "compiled", "averaged", "without counters"],
)
def test_loads_what_training_scripts_write(source, path, wrap):
    torch.save(wrap(source.state_dict()), path)
    assert_same_state(create_model("mobilenetv3_small_050", checkpoint=path), source.state_dict())


def test_loads_safetensors(source, tmp_path):
    save_file(source.state_dict(), tmp_path / "weights.safetensors")
    model = create_model("mobilenetv3_small_050", checkpoint=str(tmp_path / "weights.safetensors"))
    assert_same_state(model, source.state_dict())


def test_a_model_without_classifier_leaves_the_checkpoints_out(source, path):
    torch.save(source.state_dict(), path)
    model = create_model("mobilenetv3_small_050", num_classes=0, checkpoint=path)
    assert torch.equal(model.conv_head.weight, source.conv_head.weight)
    assert not any(key.startswith("classifier") for key in model.state_dict())


@pytest.mark.parametrize("in_chans", [1, 2, 4, 7])
def test_a_stem_for_colour_is_adapted_as_timm_does(source, path, in_chans):
    torch.save(source.state_dict(), path)
    model = create_model("mobilenetv3_small_050", in_chans=in_chans, checkpoint=path)
    peers.timm()
    from timm.models._manipulate import adapt_input_conv

    torch.testing.assert_close(model.conv_stem.weight, adapt_input_conv(in_chans, source.conv_stem.weight))


def test_the_report_tells_what_was_loaded(source, path):
    torch.save(source.state_dict(), path)
    report = load(create_model("mobilenetv3_small_050"), path)
    assert (report.spelling, report.adapted, report.kept, report.unused) == ("timm", (), (), ())
    assert set(report.loaded) == set(source.state_dict())
    report = load(create_model("mobilenetv3_small_050", in_chans=1, num_classes=0), path)
    assert (report.adapted, report.unused) == (("conv_stem.weight",), ("classifier.weight", "classifier.bias"))


def test_a_kept_classifier_is_left_as_it_was(source, path):
    torch.save(source.state_dict(), path)
    model = create_model("mobilenetv3_small_050", num_classes=7)
    before = model.classifier.weight.clone()
    with pytest.raises(CheckpointError, match="keep_head=True"):
        load(model, path)
    report = load(model, path, keep_head=True)
    assert report.kept == report.unused == ("classifier.weight", "classifier.bias")
    assert torch.equal(model.classifier.weight, before)
    assert torch.equal(model.conv_head.weight, source.conv_head.weight)
    # One that fits is not kept.
    assert load(create_model("mobilenetv3_small_050"), path, keep_head=True).kept == ()


def test_a_kept_classifier_needs_none_in_the_file(source, path):
    torch.save({key: value for key, value in source.state_dict().items() if "classifier" not in key}, path)
    report = load(create_model("mobilenetv3_small_050"), path, keep_head=True)
    assert (report.kept, report.unused) == (("classifier.weight", "classifier.bias"), ())


@pytest.mark.parametrize("suffix", ["pth", "safetensors"])
@pytest.mark.parametrize("spelling", ["timm", "torchvision"])
def test_what_is_saved_loads(tmp_path, suffix, spelling):
    model = peers.randomise(create_model("mobilenet_v3_small"))
    file = tmp_path / f"weights.{suffix}"
    save(model, file, spelling=spelling)
    save(model, file, spelling=spelling)
    assert [found.name for found in tmp_path.iterdir()] == [file.name]
    twin = create_model("mobilenet_v3_small")
    assert load(twin, file).spelling == spelling
    assert_same_state(twin, model.state_dict())


def test_a_save_that_fails_leaves_the_old_file(source, path, tmp_path, monkeypatch):
    save(source, path)
    before = path.read_bytes()
    monkeypatch.setattr(torch, "save", lambda *_: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        save(source, path)
    assert path.read_bytes() == before and list(tmp_path.iterdir()) == [path]
    with pytest.raises(CheckpointError, match=r"cannot be written.*choose another folder"):
        save(source, tmp_path / "nowhere" / "weights.pth")


def refusal(name, path, **settings) -> str:
    with pytest.raises(CheckpointError) as caught:
        create_model(name, checkpoint=path, **settings)
    assert str(path) in str(caught.value)
    return str(caught.value)


def test_a_missing_file(path):
    assert "does not exist" in refusal("mobilenetv2_035", path)


def test_a_directory(tmp_path):
    assert "is a directory" in refusal("mobilenetv2_035", tmp_path)


@pytest.mark.parametrize("name", ["weights.pth", "weights.safetensors"])
@pytest.mark.parametrize("content", [b"", b"not weights at all", b"PK\x03\x04 truncated"])
def test_an_unreadable_file(tmp_path, name, content):
    file = tmp_path / name
    file.write_bytes(content)
    assert "not" in refusal("mobilenetv2_035", file)


def test_a_truncated_file(source, path):
    torch.save(source.state_dict(), path)
    path.write_bytes(path.read_bytes()[:100_000])
    assert "may be incomplete" in refusal("mobilenetv3_small_050", path)


def test_a_file_that_would_run_code(path):
    """weights_only refuses a pickle with anything but tensors and plain containers."""
    torch.save(pytest.raises, path)
    assert "weights_only=True" in refusal("mobilenetv2_035", path)


@pytest.mark.parametrize(
    ("content", "described"),
    [([1, 2], "a list"), ({"epoch": 3}, "the keys 'epoch'"), ({}, "the keys (none)")],
)
def test_a_file_without_weights(path, content, described):
    torch.save(content, path)
    assert described in refusal("mobilenetv2_035", path)


def test_an_unknown_spelling(path):
    torch.save({"layer1.weight": torch.zeros(1)}, path)
    message = refusal("mobilenetv2_035", path)
    assert "layer1.weight" in message and "'conv_stem.weight' (timm)" in message


def test_another_models_checkpoint_tells_which_it_fits(source, path):
    torch.save(source.state_dict(), path)
    message = refusal("efficientnet_b0", path)
    assert "not a checkpoint of efficientnet_b0" in message and "blocks.2.2.bn1.weight" in message
    assert "It fits mobilenetv3_small_050" in message


def test_another_width_lists_the_shapes(source, path):
    torch.save(source.state_dict(), path)
    message = refusal("mobilenetv3_small_075", path)
    assert "expected" in message and "(16, 16, 1, 1)" in message and "It fits mobilenetv3_small_050" in message


def test_a_model_that_nobody_knows(source, path):
    state = source.state_dict()
    state["blocks.9.0.conv.weight"] = torch.zeros(1)
    torch.save(state, path)
    message = refusal("mobilenetv3_small_050", path)
    assert "blocks.9.0.conv.weight" in message and "No model that effops knows" in message


def test_a_wrong_number_of_classes_tells_the_remedy(source, path):
    torch.save(source.state_dict(), path)
    message = refusal("mobilenetv3_small_050", path, num_classes=10)
    assert "it has 1000 classes, the model 10" in message and "num_classes=1000" in message


def test_a_failed_load_leaves_the_model_alone(source, path):
    torch.save(source.state_dict(), path)
    model = create_model("mobilenetv3_small_075")
    before = {key: value.clone() for key, value in model.state_dict().items()}
    with pytest.raises(CheckpointError):
        load(model, path)
    assert_same_state(model, before)


@pytest.mark.parametrize(
    ("written_by", "spelling", "loaded_into", "remedy"),
    [
        ("tf_efficientnet_b0", "lukemelas", "efficientnet_b0", "tf_efficientnet_b0"),
        ("mobilenet_v3_small", "torchvision", "mobilenetv3_small_100", "mobilenet_v3_small"),
        ("mobilenet_v3_small", "torchvision", "tf_mobilenetv3_small_100", "mobilenet_v3_small"),
        ("tv_efficientnet_b0", "torchvision", "tf_efficientnet_b0", "tv_efficientnet_b0"),
    ],
)
def test_weights_trained_with_another_padding_or_eps_are_refused(path, written_by, spelling, loaded_into, remedy):
    """They would load strictly, and answer wrongly."""
    torch.save(export_state_dict(create_model(written_by), spelling), path)
    message = refusal(loaded_into, path)
    assert "would answer wrongly" in message and f"Create '{remedy}'" in message
    create_model(written_by, checkpoint=path)


def test_a_width_without_a_twin_needs_the_numbers_of_its_family(path):
    """torchvision builds MobileNetV3 in any width, and gives none but the full one a name."""
    torch.save(export_state_dict(create_model("mobilenetv3_small_075"), "torchvision"), path)
    assert "effops.models.build(dataclasses.replace" in refusal("mobilenetv3_small_075", path)
    arch = find_arch("mobilenetv3_small_075")
    load(build(replace(arch, bn_eps=1e-3)), path)


def test_torchvision_weights_fit_timms_row_where_the_numbers_agree(path):
    torch.save(export_state_dict(create_model("mobilenet_v2"), "torchvision"), path)
    create_model("mobilenetv2_100", checkpoint=path)
