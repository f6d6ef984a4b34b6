"""The cases of the overhead suite, and that effops answers them all."""

from __future__ import annotations

import pytest
import torch

from bench.errors import BenchError
from bench.record import read
from bench.suites import overhead
from bench.verify import relative_error
from tests.bench.rows import ENVIRONMENT
from tests.bench.test_cli import exit_code


def made(parts, networks=(), quick=True):
    return overhead.tasks(parts, networks, torch.float32, ENVIRONMENT, quick=quick)


@pytest.mark.parametrize("task", made(["ops", "blocks"]), ids=lambda task: task.label)
def test_effops_answers_every_small_case(task):
    case = task.build()
    outputs, exact = case.fused()(*case.inputs[0]), case.module.double()(*(_double(x) for x in case.inputs[0]))
    assert relative_error(outputs, exact) < 1e-5
    largest = max(x.numel() for x in case.inputs[0] if x is not None)
    assert largest <= 8, "more than one pixel: the kernel would be timed"


def _double(x):
    return None if x is None else x.double()


def test_cases_have_keys_of_their_own_and_every_block_of_the_networks_is_there():
    tasks = made(overhead.PARTS, quick=False)
    assert len({task.key for task in tasks}) == len(tasks)
    assert {task.key.suite for task in tasks} == {"overhead"}
    ops = {task.op for task in made(["ops"])}
    assert ops == {"conv_act", "depthwise_conv_act", "pointwise_conv_act", "se_gate"}
    assert len(made(["networks"])) == 1 < len(made(["networks"], quick=False))
    (named,) = made(["networks"], ["mobilenetv3_small_050"])
    assert (named.name, named.resolution) == ("mobilenetv3_small_050", 32)


def test_an_unknown_network_is_refused():
    with pytest.raises(BenchError, match="mobilenetv2_100"):
        made(["networks"], ["mobilenetv2_10"])


def test_a_quick_run_measures_verifies_and_writes(tmp_path, capsys):
    path = tmp_path / "overhead.csv"
    before = torch.get_num_threads()
    try:
        chosen = ["--peers", "eager", "--quick", "--rounds", "1", "--output", path]
        assert exit_code("overhead", *chosen) == 0
    finally:
        torch.set_num_threads(before)
    rows = read(path)
    assert {row.provider for row in rows} == {"effops", "eager"}
    assert all(row.status == "ok" and row.p50_ms > 0 and row.environment.threads == 1 for row in rows)
    assert "InvertedResidual with SE" in capsys.readouterr().out
