"""Exit codes: 0 good, 1 effops wrong or regressed, 2 bad arguments and files, never a traceback."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn

from bench import cli, tables
from bench.case import Case
from bench.commands.run import Run
from bench.peers import EvalPeer, registry
from bench.record import CaseKey, Row, read, write
from bench.runner import EvalTask
from bench.selection import select, timed
from bench.timing import Schedule
from tests.bench.rows import ENVIRONMENT, row


def exit_code(*arguments: str) -> int:
    with pytest.raises(SystemExit) as stop:
        cli.main([str(argument) for argument in arguments])
    return stop.value.code or 0


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["models", "--peers", "chanels_last"], "did you mean channels_last"),
        (["models", "--models", "mobilenetv2_10"], "mobilenetv2_100"),
        (["models", "--batch", "1,x"], "--batch takes positive numbers"),
        (["models", "--batch", "0"], "--batch takes positive numbers"),
        (["models", "--dtype", "fp64"], "the dtypes are fp32, bf16"),
        (["models", "--device", "tpu"], "--device must be one of cpu, cuda; got 'tpu'"),
        (["kernels", "--rows", "batch_norm_stat"], "did you mean batch_norm_stats"),
        (["models", "--rounds", "0"], "--rounds must be at least 1"),
        (["models", "--resolution", "-1"], "--resolution must be at least 1"),
        (["models", "--goals", "--batch", "1"], "--goals has its own networks, batches and resolutions"),
        (["models", "--goals", "--dtype", "fp16"], "it takes --dtype fp32 or bf16"),
        (["goals", "no_such.csv"], "no_such.csv"),
        (["models", "--threads", "0"], "--threads must be at least 1"),
        (["ops", "--ops", "depthwise_conv"], "did you mean depthwise_conv_act"),
        (["models", "--models", "timm/mobilenetv2_10"], "unknown model of timm"),
        (["scaling", "--resolutions", "128,x"], "--resolutions takes positive numbers"),
        (["scaling", "--batch", "0"], "--batch takes positive numbers"),
        (["scaling", "--batch", "none", "--resolutions", "NONE"], "leave nothing to measure"),
        (["models", "--output", f"{__file__}/rows.csv"], "test_cli.py is a file, not a folder"),
        (["models", "--output", "/proc/none/rows.csv"], "cannot write in /proc/none"),
        (["models", "--resolution", "9" * 14], "needs more memory than there is"),
        (["scaling", "--peers", "chanels_last"], "did you mean channels_last"),
        (["coldstart", "--models", "mobilenetv2_10"], "mobilenetv2_100"),
        (["coldstart", "--rounds", "0"], "--rounds must be at least 1"),
        (["memory", "--resolution", "0"], "--resolution must be at least 1"),
        (["memory", "--peers", "onnx_runtime"], "did you mean onnxruntime"),
        (["overhead", "--parts", "op"], "did you mean ops"),
        (["overhead", "--models", "mobilenetv2_10"], "mobilenetv2_100"),
        (["train", "--models", "mobilenetv2_10"], "mobilenetv2_100"),
        (["train", "--peers", "chanels_last"], "did you mean channels_last"),
        (["train", "--dtypes", "fp32,fp64"], "the dtypes are fp32, bf16"),
        (["train", "--size", "0"], "--resolution must be at least 1"),
        (["plot", "missing.csv"], "cannot read missing.csv"),
        (["compare", "missing.csv", "also.csv"], "cannot read missing.csv"),
        (["models", "--output", "."], "--output must be a CSV file"),
        (["modles"], "No such command"),
    ],
)
def test_bad_arguments_exit_with_2_and_say_what_is_wrong(arguments, said, capsys):
    assert exit_code(*arguments) == 2
    output = capsys.readouterr()
    assert said in " ".join((output.out + output.err).split())
    assert "Traceback" not in output.err


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_a_missing_gpu_is_told(capsys):
    assert exit_code("models", "--device", "cuda") == 2
    assert "needs a CUDA device" in capsys.readouterr().err


_COMMANDS = [
    command.callback.__name__ for command in cli.app.registered_commands if command.callback is not cli.peers_command
]


@pytest.mark.parametrize("command", _COMMANDS)
def test_the_help_of_every_command_has_examples(command, capsys):
    assert exit_code(command, "--help") == 0
    assert f"python -m bench {command}" in " ".join(capsys.readouterr().out.split())


def test_kernels_of_every_kind_are_verified_and_timed(tmp_path):
    path = tmp_path / "kernels.csv"
    wanted = "depthwise_conv_backward,batch_norm_stats,pointwise_conv_backward"
    arguments = ("--rows", wanted, "--batch", "1", "--rounds", "1", "--quick")
    assert exit_code("kernels", *arguments, "--output", path) == 0
    rows = read(path)
    assert {row.provider for row in rows} == {"effops", "reference"}
    assert {row.op for row in rows} == set(wanted.split(","))
    assert all(row.status == "ok" and row.gbps > 0 and row.share_of_limit > 0 for row in rows)


def test_compare_exits_with_1_on_a_regression_only(tmp_path, capsys):
    old, new = tmp_path / "old.csv", tmp_path / "new.csv"
    write([row("effops", 1.0), row("eager", 2.0)], old)
    write([row("effops", 1.5), row("eager", 2.0)], new)
    assert exit_code("compare", old, old) == 0
    assert exit_code("compare", old, new) == 1
    assert "1 of 1 problems regressed" in capsys.readouterr().out
    assert exit_code("compare", new, old) == 0


def test_compare_exits_with_1_when_effops_needs_more_memory(tmp_path, capsys):
    old, new = tmp_path / "old.csv", tmp_path / "new.csv"
    found = replace(row("effops", 1.0), suite="memory", p20_ms=None, p50_ms=None, p80_ms=None)
    write([replace(found, peak_bytes=100 << 20, steady_bytes=90 << 20)], old)
    write([replace(found, peak_bytes=150 << 20, steady_bytes=90 << 20)], new)
    assert exit_code("compare", old, new) == 1
    said = capsys.readouterr().out
    assert "peak memory" in said and "150 MiB" in said and "larger" in said
    assert "1 of 2 problems regressed" in said
    assert exit_code("compare", new, old) == 0


def test_plot_writes_the_figure(tmp_path, capsys):
    path = tmp_path / "models.csv"
    write([row("effops", 1.0), row("eager", 2.0)], path)
    assert exit_code("plot", path) == 0
    assert (tmp_path / "models_speedup.png").exists()


class SmallTask(EvalTask):
    """A small convolution whose effops answer is off by a factor."""

    label = "small"
    key = CaseKey("models", "small", 1, None, "float32", "warm")

    def __init__(self, factor: float):
        self._factor = factor

    def build(self) -> Case:
        torch.manual_seed(0)
        module = nn.Conv2d(3, 4, 3).eval().requires_grad_(False)
        inputs = [(torch.randn(1, 3, 8, 8),)]
        return Case(module, inputs, lambda: lambda x: module(x) * self._factor, torch.float32)

    def template(self) -> Row:
        return Row(
            **self.key._asdict(),
            models="small",
            allocator="system",
            provider="",
            status="",
            environment=ENVIRONMENT,
        )


@pytest.mark.parametrize(("factor", "code", "status"), [(1.0, 0, "ok"), (1.01, 1, "wrong")])
def test_a_wrong_effops_exits_with_1_and_is_in_the_csv(tmp_path, capsys, factor, code, status):
    path = tmp_path / "small.csv"
    chosen = select(timed(registry(EvalPeer)), ["eager", "compile"], compile=False, quick=False)
    schedule = Schedule(rounds=2, sample_seconds=0.0, warmup_seconds=0.0)
    stopped = 0
    try:
        Run(chosen, schedule, ENVIRONMENT, path).finish([SmallTask(factor)], tables.models_table)
    except cli.typer.Exit as stop:
        stopped = stop.exit_code
    assert stopped == code
    found = {r.provider: r for r in read(path)}
    assert found["effops"].status == status
    assert (found["effops"].p50_ms is None) == (status == "wrong")
    assert found["eager"].status == "ok"
    assert found["compile"].status == "skipped"
    output = capsys.readouterr().out
    assert ("disqualified" in output) == (status == "wrong")
    assert "--no-compile" in output


@pytest.fixture
def one_thread():
    """Threads that wait for each other take very long on a machine that is busy with other tests."""
    before = torch.get_num_threads()
    yield ["--threads", "1"]
    torch.set_num_threads(before)


@pytest.mark.parametrize(
    "command",
    [["models", "--resolution", "64"], ["ops", "--ops", "depthwise_conv_act,se_gate"]],
    ids=lambda c: c[0],
)
def test_quick_runs_measure_verify_and_write(tmp_path, command, one_thread):
    path = tmp_path / "rows.csv"
    options = [
        "--models",
        "mobilenetv3_small_100",
        "--peers",
        "eager",
        "--rounds",
        "1",
        "--quick",
        "--output",
        path,
    ]
    assert exit_code(*command, *options, *one_thread) == 0
    rows = read(path)
    networks = {"effops_modules"} if command[0] == "models" else set()
    assert {r.provider for r in rows} == {"effops", "eager"} | networks
    assert all(r.status == "ok" and r.p50_ms > 0 and r.error <= r.allowed_error for r in rows)
    assert all(r.environment.threads == 1 for r in rows)
    if command[0] == "ops":
        assert {r.op for r in rows} == {"depthwise_conv_act", "se_gate"}
        assert all(r.share_of_limit > 0 and r.copy_gbps > 0 and r.bytes > 0 for r in rows)


def test_ops_say_which_convolutions_are_none(tmp_path, one_thread, capsys):
    chosen = ["--models", "efficientnet_cc_b0_4e", "--ops", "se_gate", "--peers", "eager", "--rounds", "1", "--quick"]
    assert exit_code("ops", *chosen, "--output", tmp_path / "rows.csv", *one_thread) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "efficientnet_cc_b0_4e: 24 convolutions are no op, such as blocks.4." in said
    assert "its kernel is mixed for every image (CondConv)" in said


def test_a_quick_training_run_measures_verifies_and_writes(tmp_path, one_thread, capsys):
    path = tmp_path / "train.csv"
    chosen = ["--models", "mobilenetv3_small_075", "--peers", "channels_last", "--dtypes", "fp32"]
    assert exit_code("train", *chosen, "--rounds", "1", "--quick", "--output", path, *one_thread) == 0
    found = {r.provider: r for r in read(path)}
    assert set(found) >= {"effops", "channels_last"}
    for provider in ("effops", "channels_last"):
        r = found[provider]
        assert (r.suite, r.batch, r.resolution, r.dtype, r.rounds) == ("train", 4, 64, "float32", 1)
        assert r.status == "ok" and r.p50_ms > 0 and r.error <= r.allowed_error and r.held_bytes > 0
    assert "speed-up" in capsys.readouterr().out
    assert exit_code("plot", path) == 0
    assert (tmp_path / "train_step.png").exists() and (tmp_path / "train_memory.png").exists()


def test_the_profile_says_where_the_time_goes_and_writes_no_csv(tmp_path, one_thread, capsys):
    path = tmp_path / "train.csv"
    chosen = ["--models", "mobilenetv3_small_075", "--batch", "2", "--size", "32"]
    assert exit_code("train", "--profile", *chosen, "--output", path, *one_thread) == 0
    assert not path.exists()
    output = capsys.readouterr().out
    assert "mobilenetv3_small_075@32 batch 2 float32" in output
    assert "the rest" in output
