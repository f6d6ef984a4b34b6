"""``effops doctor`` tells the truth about this machine, with the extension and without it."""

from __future__ import annotations

import json

import pytest
import torch

import effops
from effops.ops import extension
from effops.ops.table import OPS

from .conftest import Run

needs_extension = pytest.mark.skipif(extension.module is None, reason="the C++ extension is not built")


def test_json_holds_every_op_and_the_versions(run: Run) -> None:
    finished = run("doctor", "--json")
    assert finished.code == 0
    report = json.loads(finished.out)
    assert report["versions"]["effops"] == effops.__version__
    assert report["versions"]["torch"] == torch.__version__
    assert {row["op"] for row in report["ops"]} == set(OPS)
    for row in report["ops"]:
        assert row["reasons"][row["backend"]] == "available"
        assert row["reasons"].keys() >= {"cpu", "reference"}


@needs_extension
def test_extension_serves_the_cpu(run: Run) -> None:
    report = json.loads(run("doctor", "--json").out)
    assert report["extension"]["loaded"]
    assert report["extension"]["build"]
    assert report["cpu"]["isa"] in report["cpu"]["isas"]
    assert {row["backend"] for row in report["ops"] if row["device"] == "cpu"} == {"cpu"}

    text = run("doctor").out
    assert "effops is ready" in text
    assert f"{report['cpu']['isa']} (chosen)" in text
    for op in OPS:
        assert op in text


def test_missing_extension_is_explained_and_usable(run: Run, without_extension: str) -> None:
    finished = run("doctor", "--json")
    assert finished.code == 0
    report = json.loads(finished.out)
    assert report["extension"] == {"loaded": False, "error": without_extension, "build": {}}
    assert {row["backend"] for row in report["ops"]} == {"reference"}
    assert all(row["reasons"]["cpu"] == without_extension for row in report["ops"] if row["device"] == "cpu")

    text = run("doctor").out
    assert "not loaded" in text
    assert without_extension in text
    assert "every op runs on plain torch" in text


def test_environment_variables_are_shown(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EFFOPS_EXAMPLE", "seen")
    assert json.loads(run("doctor", "--json").out)["environment"]["EFFOPS_EXAMPLE"] == "seen"
    assert "EFFOPS_EXAMPLE" in run("doctor").out


def test_a_forced_backend_is_pointed_out(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EFFOPS_BACKEND", "reference")
    assert "EFFOPS_BACKEND makes every op run on reference" in run("doctor").out
