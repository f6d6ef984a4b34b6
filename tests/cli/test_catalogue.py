"""``effops list`` and ``effops info`` print what the library counts."""

from __future__ import annotations

import json

import effops
from effops.models import list_models, model_info

from .conftest import Run


def test_list_names_every_model(run: Run) -> None:
    finished = run("list")
    assert finished.code == 0
    names = {line.split()[0] for line in finished.out.splitlines()[1:] if line.strip()}
    assert names == set(list_models())


def test_list_takes_a_pattern(run: Run) -> None:
    rows = json.loads(run("list", "efficientnet_b?", "--json").out)
    assert [row["name"] for row in rows] == list_models("efficientnet_b?")
    b0 = rows[0]
    assert (b0["name"], b0["resolution"], b0["params"]) == ("efficientnet_b0", 224, 5_288_548)
    assert b0["macs"] == model_info("efficientnet_b0").macs


def test_info_shows_exact_counts(run: Run) -> None:
    text = run("info", "efficientnet_b0").out
    info = model_info("efficientnet_b0")
    for count in (info.params, info.params_with_bn_stats, info.macs, info.activations, info.dw_macs):
        assert f"{count:,}" in text
    for stage in info.stages:
        assert stage.name in text
    assert "tf_efficientnet_b0 (tensorflow)" in text


def test_info_json_follows_resolution_and_classes(run: Run) -> None:
    options = ("--resolution", "160", "--num-classes", "10", "--json")
    shown = json.loads(run("info", "mobilenetv3_large_100", *options).out)
    expected = model_info("mobilenetv3_large_100", resolution=160, num_classes=10)
    assert (shown["resolution"], shown["macs"], shown["params"]) == (160, expected.macs, expected.params)
    assert [stage["macs"] for stage in shown["stages"]] == [stage.macs for stage in expected.stages]
    assert shown["twins"]["mobilenet_v3_large"] == "torchvision"


def test_version(run: Run) -> None:
    assert run("--version").out == f"effops {effops.__version__}\n"


def test_help_of_every_command_has_examples(run: Run) -> None:
    for command in ("doctor", "list", "info", "classify", "fuse"):
        text = run(command, "--help").out
        assert "Examples" in text
        assert f"effops {command}" in text
