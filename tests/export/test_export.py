"""Exported files answer as the model, without effops, at other sizes too; and what cannot be exported says why."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
import torch
from torch import nn

import effops
from effops.arch import Arch, Head, Stem
from effops.arch.scaling import SqueezeRule, Style, resolve_stages
from effops.export import to_aoti, to_exported_program, to_onnx, verify
from effops.export.program import plain_program
from effops.models import Network, build, create_model
from tests import peers
from tests.cli.conftest import Run, run  # noqa: F401 - a fixture
from tests.models.test_real_weights import photographs

ROWS = (("ds_r1_k3_s1_c8_se0.25",), ("ir_r2_k5_s2_e3_c12_se0.25",), ("er_r1_k3_s2_e4_c16", "uir_r1_a3_k5_s1_e2_c16"))


def small(padding: str = "same", **options: object) -> Network:
    """Three stages with most kinds of blocks, SAME padding and random batch norm statistics."""
    style = Style(act="silu", squeeze=SqueezeRule(base="input", gate="sigmoid"))
    arch = Arch(
        name="small",
        family="test",
        stem=Stem(channels=8, act="silu"),
        stages=resolve_stages(ROWS, style, in_channels=8),
        head=Head(channels=24, act="silu"),
        source="test",
        padding=padding,
    )
    torch.manual_seed(0)
    return peers.randomise(build(arch, num_classes=10, **options))


@pytest.fixture(scope="module")
def example() -> torch.Tensor:
    return torch.randn(1, 3, 40, 47, generator=torch.Generator().manual_seed(1))


def test_a_program_is_plain_and_folded(example):
    model = small()
    program = plain_program(model, example)
    targets = Counter(str(node.target) for node in program.graph.nodes if node.op == "call_function")
    assert all(target.startswith("aten.") or target.startswith("<built-in") for target in targets)
    convs = sum(isinstance(module, nn.Conv2d) for module in model.modules())
    assert targets["aten.conv2d.default"] + targets["aten.linear.default"] == convs + 1
    # What is left of a batch norm are the weight and bias of its convolution.
    weights = sum(conv.weight.numel() + conv.out_channels for conv in model.modules() if isinstance(conv, nn.Conv2d))
    classifier = sum(p.numel() for p in model.classifier.parameters())
    assert sum(t.numel() for t in [*program.state_dict.values(), *program.constants.values()]) == weights + classifier
    assert not any("rsqrt" in target for target in targets)


WITHOUT_EFFOPS = """
import json, sys
sys.modules["effops"] = None
import torch
x, y = torch.load(sys.argv[2])
logits = torch.export.load(sys.argv[1]).module()(x)
print(json.dumps((logits - y).abs().max().item() / y.abs().max().item()))
"""


def test_a_program_runs_without_effops_at_other_sizes(example, tmp_path):
    model, path = small(), tmp_path / "small.pt2"
    exported = to_exported_program(model, example, path, dynamic=["batch", "size"])
    assert {shape[0] for shape in exported.errors} == {1, 3} and len(exported.errors) == 3
    assert max(exported.errors.values()) < 1e-5
    x = torch.randn(5, 3, 53, 66)
    torch.save((x, model(x).detach()), tmp_path / "pair.pt")
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_EFFOPS, str(path), str(tmp_path / "pair.pt")], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) < 1e-5
    assert sorted(p.name for p in tmp_path.iterdir()) == ["pair.pt", "small.pt2"]


@pytest.mark.parametrize("padding", ["same", pytest.param("symmetric", marks=pytest.mark.slow)])
def test_onnx_with_any_batch_and_size(example, tmp_path, padding):
    pytest.importorskip("onnxruntime", reason="pip install -r requirements/export.txt")
    model = small(padding)
    exported = to_onnx(model, example, tmp_path / "small.onnx", dynamic=["batch", "size"])
    assert exported.format == "ONNX" and len(exported.errors) == 3 and max(exported.errors.values()) < 1e-5


def test_lite0_as_onnx_names_the_same_photographs(tmp_path):
    """The real checkpoint: the top five and the logits of ONNX Runtime on real photographs."""
    onnxruntime = pytest.importorskip("onnxruntime", reason="pip install -r requirements/export.txt")
    model = create_model("tf_efficientnet_lite0", checkpoint=peers.lite0_checkpoint()).eval()
    x, labels = photographs(model.default_cfg)
    path = tmp_path / "lite0.onnx"
    to_onnx(model, x[:2], path)
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    logits = torch.from_numpy(session.run(None, {"images": x.numpy()})[0])
    with torch.no_grad():
        expected = model(x)
    assert torch.equal(logits.topk(5).indices, expected.topk(5).indices)
    assert (logits - expected).abs().max() < 1e-4
    assert (logits.argmax(1) == labels).sum() >= 15


@pytest.mark.slow
def test_an_aotinductor_package(example, tmp_path):
    exported = to_aoti(small(), example, tmp_path / "small.pt2", dynamic=["batch", "size"])
    assert exported.format == "AOTInductor" and max(exported.errors.values()) < 1e-5


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    [
        "efficientnet_b0",
        "efficientnetv2_rw_t",
        "mobilenetv2_100",
        "mobilenetv3_large_100",
        "mobilenetv4_hybrid_medium",
        "tf_mobilenetv3_small_075",
    ],
)
def test_networks_as_onnx(name, tmp_path):
    pytest.importorskip("onnxruntime", reason="pip install -r requirements/export.txt")
    model = peers.randomise(create_model(name))
    exported = to_onnx(model, torch.randn(1, 3, 64, 64), tmp_path / "model.onnx", dynamic=["batch", "size"])
    assert max(exported.errors.values()) < 1e-5


def test_a_wrong_file_is_not_kept(example, tmp_path, monkeypatch):
    path = tmp_path / "small.pt2"
    path.write_text("what was there before")
    monkeypatch.setattr(torch.export, "load", lambda path: plain_program(small("symmetric"), example))
    with pytest.raises(effops.ExportError, match=r"differs from the model by .* It was not written"):
        to_exported_program(small(), example, path)
    assert [p.name for p in tmp_path.iterdir()] == ["small.pt2"] and path.read_text() == "what was there before"


def test_values_that_are_no_numbers_are_differences(example):
    with pytest.raises(effops.ExportError, match="differs"):
        verify.verified(small(), lambda x: torch.full((1, 10), float("nan")), [example], "it")


WRONG = {
    "training": (lambda m, x, p: to_exported_program(m.train(), x, p), r"call model\.eval\(\) first"),
    "model": (lambda m, x, p: to_exported_program(m.state_dict(), x, p), r"model must be a torch\.nn\.Module"),
    "example": (lambda m, x, p: to_exported_program(m, x[0], p), r"example must be .* got shape \(3, 40, 47\)"),
    "dynamic": (
        lambda m, x, p: to_exported_program(m, x, p, dynamic="batch"),
        "dynamic must be a list of 'batch', 'size'",
    ),
    "suffix": (lambda m, x, p: to_exported_program(m, x, p.with_suffix(".onnx")), r"path must end in \.pt2"),
    "folder": (lambda m, x, p: to_exported_program(m, x, p / "no" / "a.pt2"), "in a folder that does not exist"),
}


@pytest.mark.parametrize("case", WRONG)
def test_bad_arguments(case, example, tmp_path):
    call, message = WRONG[case]
    with pytest.raises(effops.ArgumentError, match=message):
        call(small(), example, tmp_path / "small.pt2")


def test_onnx_without_its_packages(example, tmp_path, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(effops.ExportError, match=r"pip install 'effops\[export\]'"):
        to_onnx(small(), example, tmp_path / "small.onnx")


def test_the_command(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    monkeypatch.setattr("effops.cli.export.create_model", lambda name, **options: small())
    path = tmp_path / "small.pt2"
    options = ("--format", "program", "--resolution", "33", "--dynamic", "batch", "--json")
    shown = json.loads(run("export", "mobilenetv3_small_050", "--output", path, *options).out)
    assert shown["format"] == "torch.export" and shown["bytes"] == path.stat().st_size
    assert [check["input"] for check in shown["checks"]] == [[1, 3, 33, 33], [3, 3, 33, 33]]
    failed = run("export", "mobilenetv3_small_050", "--output", tmp_path / "small.txt", "--format", "program")
    assert failed.code == 2 and "path must end in .pt2" in failed.err
