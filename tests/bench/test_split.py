"""The time of a network by kind of kernel: what counts for what, the work of it, and the parts of the whole."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import effops.nn
from bench import cli, tables
from bench.plots import plot
from bench.record import read
from bench.splits import splits
from bench.suites.split import _merged
from bench.work import kind_of, work_of
from tests.bench.test_reports import text_of


@pytest.mark.parametrize(
    ("op", "kind"),
    [
        ("effops::conv_act", "dense"),
        ("effops::depthwise_conv_act_pool", "depthwise"),
        ("effops::mbconv", "mbconv"),
        ("effops_triton::pointwise_conv_act", "pointwise"),
        ("effops::something_new", "something_new"),
        ("aten::mean", "pooling"),
        ("aten::addmm", "classifier"),
        ("aten::copy_", "copies"),
        ("aten::conv2d", "torch_conv"),
        ("aten::_scaled_dot_product_flash_attention_for_cpu", "attention"),
        ("aten::total", "other"),
        ("aten::view", "other"),
    ],
)
def test_ops_have_kinds(op, kind):
    assert kind_of(op) == kind


def test_the_work_of_a_network_is_that_of_its_calls():
    weight, images = torch.randn(8, 3, 3, 3), torch.randn(2, 3, 16, 16)
    classifier = nn.Linear(8, 5)

    def call() -> torch.Tensor:
        y = effops.ops.conv_act(images, weight, padding=1)
        return classifier(y.flatten(2).mean(2))

    work = work_of(call)
    assert work["dense"].macs == 2 * 16 * 16 * 8 * 3 * 9
    assert work["dense"].bytes == 4 * (images.numel() + weight.numel() + 2 * 8 * 16 * 16)
    assert work["classifier"].macs == 2 * 8 * 5
    assert work["classifier"].bytes == 4 * (2 * 8 + 8 * 5 + 5 + 2 * 5)
    assert work["pooling"].bytes == 4 * (2 * 8 * 16 * 16 + 2 * 8)


def test_prepared_calls_are_counted_as_they_run():
    torch.manual_seed(0)
    block = effops.nn.MBConv(8, 16, 8, se_channels=4).eval()
    images = torch.randn(1, 8, 8, 8).contiguous(memory_format=torch.channels_last)
    first = work_of(lambda: block(images))
    with torch.no_grad():
        block(images)
    # The first call folds the weights as well.
    assert work_of(lambda: block(images)) == {"mbconv": first["mbconv"]}
    assert first["mbconv"].macs == 64 * (8 * 16 + 16 * 9 + 16 * 8) + 2 * 16 * 4


def test_small_kinds_count_among_the_others():
    merged = _merged({"mbconv": [5.0, 7.0], "copies": [0.01, 0.02], "pooling": [0.03, 0.02]}, total=10.0)
    assert merged.keys() == {"mbconv", "other"}
    assert merged["other"] == pytest.approx([0.04, 0.04])


def test_a_network_is_split_verified_and_drawn(tmp_path):
    path = tmp_path / "split.csv"
    arguments = ["--models", "mobilenetv3_small_050", "--resolution", "32", "--rounds", "2", "--quick"]
    with pytest.raises(SystemExit) as stop:
        cli.main(["split", *arguments, "--output", str(path)])
    assert not stop.value.code
    rows = read(path)
    assert {row.suite for row in rows} == {"split"} and {row.status for row in rows} == {"ok"}
    (found,) = splits(rows)
    assert found.whole.error <= found.whole.allowed_error
    kernels = [row for row in found.parts.values() if row.op.endswith(("conv", "pointwise", "depthwise", "dense"))]
    assert kernels and all(row.gflops > 0 and row.gbps > 0 for row in kernels)
    inside = sum(row.p50_ms for kind, row in found.parts.items() if kind != "outside")
    # The profiler may cost the ops more than all that is beside them takes.
    left = max(0.0, found.whole.p50_ms - inside)
    outside = found.parts.get("outside")
    assert (outside.p50_ms if outside else 0.0) == pytest.approx(left)
    (figure,) = plot(rows, tmp_path)
    assert figure.name == "split.png"
    assert ("Python and the rest" in text_of(tables.split_table(rows))) == (left > 0)


def test_a_split_goes_on_where_it_stopped(tmp_path, capsys):
    path = tmp_path / "split.csv"
    arguments = ["--resolution", "32", "--rounds", "2", "--quick", "--output", str(path)]
    found = []
    for models in ("mobilenetv3_small_050", "mobilenetv3_small_050,mobilenetv3_small_075"):
        with pytest.raises(SystemExit) as stop:
            cli.main(["split", "--models", models, "--resume", *arguments])
        assert not stop.value.code
        found.append(read(path))
    before, rows = found
    assert rows[: len(before)] == before
    assert {row.models for row in rows} == {"mobilenetv3_small_050", "mobilenetv3_small_075"}
    assert "1 of 2 cases are in" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--models", "mobilenetv2_10"], "mobilenetv2_100"),
        (["--dtype", "fp64"], "the dtypes are fp32, bf16"),
        (["--rounds", "0"], "--rounds must be at least 1"),
        (["--resolution", "0"], "--resolution must be at least 1"),
    ],
)
def test_bad_arguments_are_told(arguments, said, capsys):
    with pytest.raises(SystemExit) as stop:
        cli.main(["split", *arguments])
    assert stop.value.code == 2
    output = capsys.readouterr()
    assert said in " ".join((output.out + output.err).split())
