"""The choice of a backend: what is asked for runs or raises, what is not asked for is explained."""

import subprocess
import sys

import pytest
import torch

import effops
from effops.ops import backends, extension

X, W = torch.randn(1, 4, 5, 5), torch.randn(4, 1, 3, 3)


def test_default_is_the_cpu_kernel():
    explanation = effops.explain(effops.ops.depthwise_conv_act, X, W, padding=1)
    assert explanation.backend == "cpu"
    assert explanation.reasons["cpu"].startswith("chosen")
    assert "runs on cpu" in str(explanation)


def test_explain_by_name_runs_nothing():
    weights = (torch.randn(2, 4), None, torch.randn(4, 2), None)
    assert effops.explain("squeeze_excite", X, *weights).op == "squeeze_excite"
    with pytest.raises(effops.ArgumentError, match=r"op must be one of .*depthwise_conv_act"):
        effops.explain("dwconv", X, W)


def test_float64_falls_back_and_says_why():
    explanation = effops.explain("depthwise_conv_act", X.double(), W.double())
    assert explanation.backend == "reference"
    assert "float64" in explanation.reasons["cpu"]


def test_a_forced_backend_raises_where_it_cannot_run():
    with effops.backend("cpu"), pytest.raises(effops.BackendError, match=r"'cpu' was asked for.*float16"):
        effops.ops.depthwise_conv_act(X.half(), W.half())


def test_forcing_is_undone_even_after_an_error():
    with pytest.raises(effops.ArgumentError), effops.backend("reference"):
        effops.ops.depthwise_conv_act(X, W[:2])
    assert effops.explain("depthwise_conv_act", X, W).backend == "cpu"


def test_nesting():
    with effops.backend("reference"):
        with effops.backend("cpu"):
            assert effops.explain("depthwise_conv_act", X, W).reasons["cpu"] == "asked for"
        assert effops.explain("depthwise_conv_act", X, W).backend == "reference"


def test_unknown_backend_lists_the_known():
    with (
        pytest.raises(effops.ArgumentError, match=r"one of cpu, cuda, triton, reference; got 'tpu'"),
        effops.backend("tpu"),
    ):
        pass


def test_report_names_every_op():
    rows = backends.report()
    assert {row.op for row in rows} == set(backends.OPS)
    assert all(row.backend == "cpu" and row.reasons["cpu"] == "available" for row in rows if row.device == "cpu")


def run_python(code, **environment):
    return subprocess.run(
        [sys.executable, "-c", code],
        env={"PATH": "", **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def test_environment_variable_chooses():
    call = "effops.explain('pointwise_conv_act', torch.ones(1, 1, 1, 1), torch.ones(1, 1))"
    code = f"import torch, effops; print({call}.backend)"
    assert run_python(code, EFFOPS_BACKEND="reference").stdout.strip() == "reference"
    failed = run_python(code, EFFOPS_BACKEND="tpu")
    assert failed.returncode != 0
    assert "EFFOPS_BACKEND must be one of cpu, cuda, triton, reference; got 'tpu'" in failed.stderr


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ([], "installed without its C++ extension"),
        (["_C.cpython-39-x86_64-linux-gnu.so"], "built for another Python"),
        ([None], "does not load"),
    ],
)
def test_a_missing_or_broken_extension_is_explained(tmp_path, monkeypatch, files, message):
    import sysconfig

    for name in files:
        (tmp_path / (name or f"_C{sysconfig.get_config_var('EXT_SUFFIX')}")).write_bytes(b"not a library")
    monkeypatch.setattr(extension, "__file__", str(tmp_path / "ops" / "extension.py"))
    explained = extension._explain(ImportError("file too short"))
    assert message in explained and "pip install" in explained


def test_set_isa_names_the_tiers():
    with pytest.raises(ValueError, match="isa must be one of scalar"):
        extension.module.set_isa("neon")
