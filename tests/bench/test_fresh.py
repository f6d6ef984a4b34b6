"""Cold start and memory: fresh processes, judged before their figures count."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from bench import resident
from bench.fresh import measure as fresh
from bench.fresh import process, report
from bench.networks import Network, Origin
from bench.peers import registry
from bench.progress import Watcher
from bench.record import read
from bench.suites.fresh import ColdStartTask, MemoryTask
from bench.timing import Schedule
from tests.bench.rows import ENVIRONMENT, row, untimed
from tests.bench.test_cli import exit_code
from tests.bench.test_reports import text_of

PEERS = registry()


def small_case() -> fresh.FreshCase:
    torch.manual_seed(0)
    module = nn.Conv2d(3, 4, 3).eval().requires_grad_(False)
    network = Network(module, "made up", Origin("effops", "made up"))
    return fresh.FreshCase(network, torch.randn(1, 3, 8, 8), torch.float32, threads=1)


class Processes:
    """In the place of fresh processes: answers at once, with figures that grow from one to the next."""

    def __init__(self, case: fresh.FreshCase, spoil: dict[str, str] | None = None):
        self.asked: list[str] = []
        self._case = case
        self._spoil = spoil or {}

    def ask(self, request: process.Request) -> dict:
        self.asked.append(request.provider or request.job)
        how = self._spoil.get(self.asked[-1])
        if how == "fails":
            return {"error": "RuntimeError: no compiler"}
        if request.job == "export":
            return {"export_s": 9.0}
        assert bool(request.onnx) == PEERS[request.provider].reads_onnx
        factor = 1.01 if how == "wrong" else 1.0
        torch.save(self._case.network.module(self._case.images) * factor, request.outputs)
        count = float(self.asked.count(request.provider))
        return {"import_s": 1.0, "prepare_s": 0.25 * count, "first_call_s": 0.5, "peak_bytes": 1000 * count}


def measured(monkeypatch, names, repetitions=3, spoil=None):
    case = small_case()
    processes = Processes(case, spoil)
    monkeypatch.setattr(fresh, "ask", processes.ask)
    for name in names:
        monkeypatch.setattr(type(PEERS[name]), "missing", lambda self: None)
    result = fresh.measure_fresh(case, "start", [PEERS[name] for name in names], repetitions, Watcher())
    return result, processes.asked


def test_every_repetition_runs_every_provider_in_another_order(monkeypatch):
    result, asked = measured(monkeypatch, ["effops", "eager", "channels_last"])
    rounds = [asked[i : i + 3] for i in (0, 3, 6)]
    assert all(sorted(names) == ["channels_last", "eager", "effops"] for names in rounds)
    assert len({names[0] for names in rounds}) == 3
    assert result.rounds == 3
    assert result.median("effops", "prepare_s") == 0.5
    assert result.median("effops", "export_s") is None


def test_engines_get_a_file_that_another_process_exported(monkeypatch):
    result, asked = measured(monkeypatch, ["effops", "onnxruntime", "openvino"], repetitions=2)
    assert asked.count("export") == 2 and asked[0] == "export"
    assert result.median("openvino", "export_s") == 9.0
    assert result.median("effops", "export_s") is None


@pytest.mark.parametrize(("how", "status"), [("fails", "failed"), ("wrong", "wrong")])
def test_who_fails_or_is_wrong_is_not_asked_again_and_has_no_figures(monkeypatch, how, status):
    result, asked = measured(monkeypatch, ["effops", "eager"], spoil={"eager": how})
    good, bad = result.measurements
    assert (good.status, bad.status) == ("ok", status)
    assert ("no compiler" if how == "fails" else "relative error") in bad.reason
    assert asked.count("eager") == 1 and asked.count("effops") == 3
    assert result.median("eager", "prepare_s") is None


def test_a_network_that_cannot_be_exported_stops_the_engines_alone(monkeypatch):
    result, asked = measured(monkeypatch, ["effops", "openvino"], spoil={"export": "fails"})
    assert [m.status for m in result.measurements] == ["ok", "failed"]
    assert "export to ONNX failed: RuntimeError: no compiler" in result.measurements[1].reason
    assert asked == ["export", "effops", "effops", "effops"]


def test_rows_hold_medians_and_the_parts_of_the_time(monkeypatch):
    result, _ = measured(monkeypatch, ["effops", "openvino"])
    task = ColdStartTask("mobilenetv3_small_050", 1, 64, torch.float32, ENVIRONMENT)
    ours, other = (task.complete(replace(row(name, 1.0), p50_ms=None), result) for name in ("effops", "openvino"))
    assert (ours.p50_ms, ours.prepare_s, ours.first_call_s, ours.import_s) == (1000.0, 1.0, 0.5, 1.0)
    assert (ours.export_s, other.export_s, ours.rounds) == (None, 9.0, 3)
    failed = untimed("eager", "failed", "why")
    assert task.complete(failed, result) == failed


def started(provider: str, seconds: float, **changes):
    found = replace(row(provider, seconds * 1e3), suite="coldstart", prepare_s=seconds, first_call_s=seconds / 4)
    return replace(found, import_s=2.0, **changes)


def test_the_report_of_starts_shows_parts_and_goals():
    rows = [started("effops", 0.5), started("openvino", 0.2, export_s=5.0), started("compile", 20.0)]
    text = text_of(report.start_report([*rows, untimed("freezing", "failed", "why")]))
    assert re.search(r"at most 2x +│ 2\.50x +│ 0\.5 s +│ openvino 0\.2 s +│ missed", text)
    assert re.search(r"at most 0\.1x +│ 0\.025x +│ 0\.5 s +│ compile 20 s +│ reached", text)
    assert "40.00x" in text and "5.2" in text and "failed" in text


def test_the_report_of_memory_shows_ratios_and_the_goal():
    mib = 2**20
    rows = [
        replace(row(name, 1.0), suite="memory", p50_ms=None, peak_bytes=peak * mib, steady_bytes=mib)
        for name, peak in (("effops", 40), ("onnxruntime", 100))
    ]
    text = text_of(report.memory_report(rows))
    assert re.search(r"at most 0\.5x +│ 0\.40x +│ 40 MiB +│ onnxruntime 100 MiB +│ reached", text)
    assert "2.50x" in text


@pytest.mark.parametrize(
    ("code", "error", "said"),
    [
        (1, "Traceback\nImportError: no torch\n", "ended with code 1: ImportError: no torch"),
        (-9, "", "ended by SIGKILL: out of memory?"),
        (-11, "noise", "ended by SIGSEGV"),
    ],
)
def test_a_process_that_dies_says_how(monkeypatch, tmp_path, code, error, said):
    done = subprocess.CompletedProcess([], code, "", error)
    monkeypatch.setattr(process.subprocess, "run", lambda *arguments, **options: done)
    request = small_case().request("start", tmp_path, PEERS["eager"])
    assert said in process.ask(request)["error"]


def test_the_child_imports_nothing_before_it_times_imports():
    code = (
        "import sys, bench.fresh.child; print([name for name in ('torch', 'effops', 'numpy') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout.strip() == "[]"


def test_compilers_find_no_cache_of_an_earlier_process(monkeypatch, tmp_path):
    folders = []

    def run(command, *, env, **options):
        folders.append(env["TORCHINDUCTOR_CACHE_DIR"])
        asked = json.loads(Path(command[-1]).read_text())
        Path(asked["answer"]).write_text("{}")
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(process.subprocess, "run", run)
    for _ in range(2):
        assert process.ask(small_case().request("start", tmp_path, PEERS["compile"])) == {}
    assert len(set(folders)) == 2


@pytest.mark.skipif(sys.platform != "linux", reason="the peak is read from /proc")
@pytest.mark.parametrize("command", ["coldstart", pytest.param("memory", marks=pytest.mark.slow)])
def test_quick_runs_in_real_processes(tmp_path, command, capsys):
    try:
        resident.reset_peak()
    except OSError:
        pytest.skip("this kernel does not let a process reset its peak")
    path = tmp_path / "rows.csv"
    chosen = ["--models", "timm/mobilenetv3_small_050", "--resolution", "32", "--peers", "eager", "--threads", "1"]
    before = torch.get_num_threads()
    try:
        assert exit_code(command, *chosen, "--quick", "--output", path) == 0
    finally:
        torch.set_num_threads(before)
    rows = {found.provider: found for found in read(path)}
    mapped = rows.pop("effops_mapped", None)
    assert (mapped is not None) == (command == "memory")
    if mapped is not None:
        assert mapped.status == "skipped" and "effops' own models" in mapped.reason
    ours, modules, eager = rows.values()
    assert (ours.provider, modules.provider, eager.provider) == ("effops", "effops_modules", "eager")
    for found in (ours, modules, eager):
        assert (found.suite, found.status, found.rounds) == (command, "ok", 1)
        assert found.error <= found.allowed_error
        assert found.network.endswith("effops runs a fused copy")
    if command == "coldstart":
        assert 0 < ours.first_call_s < ours.prepare_s < 60 and ours.import_s > 0
    else:
        # The weights of the copy alone.
        assert ours.peak_bytes > 1.5 * 2**22 and ours.steady_bytes > 2**22


@pytest.mark.slow
def test_weights_in_a_mapped_file_leave_memory():
    task = MemoryTask("mobilenetv3_large_100", 1, 64, torch.float32, replace(ENVIRONMENT, threads=1))
    result = task.measure([PEERS["effops"], PEERS["effops_mapped"]], Schedule(1, 0.0, 0.0), Watcher())
    assert [m.status for m in result.measurements] == ["ok", "ok"], result.measurements
    # Half of 21 MiB of weights: so much less even where the rest of a process's memory differs from run to run.
    assert result.median("effops", "steady_bytes") - result.median("effops_mapped", "steady_bytes") > 10 * 2**20


@pytest.mark.slow
@pytest.mark.parametrize(("engine", "batch"), [("onnxruntime", 1), ("openvino", 1), ("openvino_streams", 2)])
@pytest.mark.parametrize("kind", [ColdStartTask, MemoryTask])
def test_engines_run_in_real_processes(engine, batch, kind):
    peer = PEERS[engine]
    if why := peer.missing():
        pytest.skip(why)
    task = kind("mobilenetv3_small_050", batch, 32, torch.float32, replace(ENVIRONMENT, threads=1))
    result = task.measure([peer], Schedule(1, 0.0, 0.0), Watcher())
    assert [m.status for m in result.measurements] == ["ok"], result.measurements
    assert result.median(engine, "export_s") > 0
