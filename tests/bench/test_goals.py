"""What effops means to reach beside its peers: which cases, and when a goal counts as reached."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from bench.errors import BenchError
from bench.goals import GOALS, cases, verdicts
from bench.report import evidence
from bench.suites.models import goal_tasks
from effops.arch import find_arch

from .rows import ENVIRONMENT, row, untimed


def found(*rows, case: str = "mobilenetv1_100", **changes):
    """The one verdict on these times, or None."""
    return next(verdicts([replace(row(name, ms, case=case), **changes) for name, ms in rows]), None)


def test_the_ratio_is_to_the_fastest_peer_and_effops_by_module_is_none():
    verdict = found(("effops", 2.0), ("effops_modules", 1.0), ("eager", 9.0), ("openvino", 2.5), ("onnxruntime", 3.0))
    assert (verdict.ratio, verdict.peer.provider, verdict.least) == (1.25, "openvino", 1.05)
    assert verdict.reached
    assert not found(("effops", 2.0), ("openvino", 2.5), ("eager", 2.0)).reached


def test_the_rate_of_a_matrix_product_will_do_where_the_goal_says_so():
    times = ("effops", 2.0), ("openvino", 2.0)
    assert found(*times, gflops=86.0, gemm_gflops=100.0).reached
    assert not found(*times, gflops=84.0, gemm_gflops=100.0).reached
    assert not found(*times, case="mobilenetv2_100", gflops=99.0, gemm_gflops=100.0).reached
    assert not found(*times, case="mobilenetv4_conv_medium", resolution=256, gflops=99.0, gemm_gflops=100.0,
                     dtype="bfloat16").reached  # fmt: skip


@pytest.mark.parametrize(
    "changes", [{"batch": 3}, {"resolution": 192}, {"dtype": "bfloat16"}, {"case": "mnasnet_100"}], ids=str
)
def test_other_cases_have_no_goal(changes):
    assert found(("effops", 1.0), ("eager", 2.0), **changes) is None


def test_without_both_times_there_is_no_verdict():
    assert found(("effops", 1.0)) is None
    assert found(("eager", 1.0)) is None
    assert list(verdicts([untimed("effops", "wrong", "why"), row("eager", 1.0)])) == []
    assert list(verdicts([row("effops", 1.0), untimed("eager", "failed", "why")])) == []


def test_every_goal_is_a_network_of_effops_and_a_task():
    for goal in GOALS:
        assert find_arch(goal.network).name == goal.network
    tasks = goal_tasks(torch.float32, ENVIRONMENT)
    assert [(task.name, task.batch, task.resolution) for task in tasks] == cases("float32")
    assert ("tf_efficientnetv2_s", 4, 300) in cases("float32") and ("efficientnet_b4", 8, 380) not in cases("float32")
    assert len(cases("bfloat16")) == len(cases("float32")) - 2
    with pytest.raises(BenchError, match=r"--goals has no goals in torch\.float16; it takes --dtype fp32 or bf16"):
        goal_tasks(torch.float16, ENVIRONMENT)


def test_the_command_of_their_rows_is_short():
    rows = [replace(row("effops", 1.0, case=name, batch=batch), models=name, resolution=size)
            for name, batch, size in cases("float32")]  # fmt: skip
    assert evidence.command(rows) == "python -m bench models --goals --dtype fp32 --threads 2"
    assert evidence.command(rows[:2]) == (
        "python -m bench models --models efficientnet_b0 --batch 1,8 --dtype fp32 --threads 2"
    )
