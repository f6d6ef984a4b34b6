"""An interrupted run goes on where it stopped: finished cases stay, half ones and those of other machines do not."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn

from bench.case import Case
from bench.commands.run import Run
from bench.errors import BenchError
from bench.peers.eager import Eager, EagerChannelsLast
from bench.peers.effops import Effops
from bench.record import CaseKey, Row, read, write
from bench.resume import earlier_cases
from bench.runner import EvalTask, run
from bench.selection import Selection
from bench.suites import kernels, models, ops, train
from bench.suites.models import NAMES
from bench.suites.ops import unique_problems
from bench.tables import console, models_table
from bench.timing import Schedule
from tests.bench.rows import ENVIRONMENT, row, untimed

SCHEDULE = Schedule(rounds=20, sample_seconds=0.0, warmup_seconds=0.0)
BOTH = Selection([Effops(), Eager()])


class SmallTask(EvalTask):
    """A convolution that counts how often it is built, and may be interrupted."""

    label, key = "", None

    def __init__(self, case: str, interrupted: bool = False):
        self.label = case
        self.key = CaseKey("models", case, 1, 224, "float32", "warm")
        self.built = 0
        self._interrupted = interrupted

    def build(self) -> Case:
        if self._interrupted:
            raise KeyboardInterrupt
        self.built += 1
        module = nn.Conv2d(3, 4, 3).eval().requires_grad_(False)
        return Case(module, [(torch.randn(1, 3, 8, 8),)], lambda: module, torch.float32)

    def template(self) -> Row:
        return Row(**self.key._asdict(), models="", allocator="system", provider="", status="", environment=ENVIRONMENT)


def finished(case: str) -> list[Row]:
    return [row("effops", 1.0, case=case), row("eager", 2.0, case=case)]


def earlier(rows, path, *, selection=BOTH, schedule=SCHEDULE, here=ENVIRONMENT, cases=("first", "second")):
    write(rows, path)
    found = earlier_cases(path, [SmallTask(case) for case in cases], selection, schedule, here)
    return [key.case for key in found]


def test_a_finished_case_is_not_measured_again_and_stays_in_the_csv(tmp_path):
    path = tmp_path / "models.csv"
    old = [*finished("of another run"), *finished("first")]
    write([*old, row("effops", 1.0, case="second")], path)
    tasks = [SmallTask("first"), SmallTask("second")]
    known = earlier_cases(path, tasks, BOTH, SCHEDULE, ENVIRONMENT)
    rows = run(tasks, BOTH, replace(SCHEDULE, rounds=1), path, console(), known)
    assert [task.built for task in tasks] == [0, 1]
    assert [(r.case, r.provider) for r in rows] == [(c, p) for c in ("first", "second") for p in ("effops", "eager")]
    assert rows[:2] == old[2:]
    assert read(path) == [*old, *rows[2:]]


def test_an_interruption_says_how_to_go_on_and_resume_does(tmp_path, capsys):
    path = tmp_path / "models.csv"
    plan = replace(SCHEDULE, rounds=2)
    stopped = 0
    try:
        Run(BOTH, plan, ENVIRONMENT, path).finish([SmallTask("first"), SmallTask("second", True)], models_table)
    except SystemExit as stop:
        stopped = stop.code
    except Exception as stop:
        stopped = stop.exit_code
    assert stopped == 130
    assert "--resume goes on" in " ".join(capsys.readouterr().err.split())
    tasks = [SmallTask("first"), SmallTask("second")]
    Run(BOTH, plan, ENVIRONMENT, path, resume=True).finish(tasks, models_table)
    assert [task.built for task in tasks] == [0, 1]
    assert "1 of 2 cases are in" in capsys.readouterr().out
    # Without the option everything is measured anew.
    Run(BOTH, plan, ENVIRONMENT, path).finish(tasks, models_table)
    assert [task.built for task in tasks] == [1, 2]


def test_nothing_to_resume_is_no_error(tmp_path):
    assert earlier_cases(tmp_path / "missing.csv", [SmallTask("first")], BOTH, SCHEDULE, ENVIRONMENT) == {}


def test_a_case_lacks_a_provider_that_is_wanted_now(tmp_path):
    rows = [*finished("first"), *finished("second"), row("channels_last", 1.5, case="second")]
    more = Selection([*BOTH.peers, EagerChannelsLast()])
    assert earlier(rows, tmp_path / "rows.csv", selection=more) == ["second"]
    # Providers that are not wanted now do no harm.
    assert earlier(rows, tmp_path / "rows.csv") == ["first", "second"]


def test_wrong_and_failed_stay_and_skipped_stays_while_its_reason_holds(tmp_path, monkeypatch):
    class Absent(Eager):
        name = "absent"

        def missing(self):
            return "not installed"

    def rows(status: str, provider: str) -> list[Row]:
        return [*finished("first"), replace(untimed(provider, status, "why"), case="first")]

    path = tmp_path / "rows.csv"
    present = Selection([*BOTH.peers, EagerChannelsLast()])
    assert earlier(rows("failed", "channels_last"), path, selection=present) == ["first"]
    assert earlier(rows("wrong", "channels_last"), path, selection=present) == ["first"]
    assert earlier(rows("skipped", "channels_last"), path, selection=present) == []
    assert earlier(rows("skipped", "absent"), path, selection=Selection([*BOTH.peers, Absent()])) == ["first"]
    monkeypatch.setattr(EagerChannelsLast, "unsuited", lambda self, batch, dtype: f"not for {batch} in {dtype}")
    assert earlier(rows("skipped", "channels_last"), path, selection=present) == ["first"]
    left_out = Selection(BOTH.peers, {"compile": "--no-compile"})
    assert earlier(rows("skipped", "compile"), path, selection=left_out) == ["first"]


def test_other_rounds_are_measured_again_unless_time_decides_on_them(tmp_path):
    path = tmp_path / "rows.csv"
    assert earlier(finished("first"), path, schedule=replace(SCHEDULE, rounds=5)) == []
    assert earlier(finished("first"), path, schedule=replace(SCHEDULE, rounds=30, case_seconds=9.0)) == ["first"]


@pytest.mark.parametrize(
    "change", [{"torch": "9.9"}, {"threads": 8}, {"git_sha": "fedcba9"}, {"packages": "timm 2.0"}, {"cpu": "another"}]
)
def test_a_file_of_another_environment_is_refused(tmp_path, change):
    (name,) = change
    with pytest.raises(BenchError, match=f"another environment: its {name} is"):
        earlier(finished("first"), tmp_path / "rows.csv", here=replace(ENVIRONMENT, **change))


def test_the_date_is_no_difference(tmp_path):
    assert earlier(finished("first"), tmp_path / "rows.csv", here=replace(ENVIRONMENT, date="2030")) == ["first"]


def test_a_file_of_another_suite_is_refused(tmp_path):
    rows = [replace(r, suite="train") for r in finished("first")]
    with pytest.raises(BenchError, match="holds rows of the suite train"):
        earlier(rows, tmp_path / "rows.csv")


def test_every_suite_names_its_cases_before_it_builds_them():
    fp32 = torch.float32
    limits = {"gemm_gflops": 1.0, "allocator": "system"}
    found = unique_problems(NAMES[:1], ("se_gate",))
    rows = kernels.known_rows(["batch_norm_stats", "mbconv"])
    for tasks in (
        models.tasks(NAMES[:2], [1, 8], None, fp32, ENVIRONMENT),
        ops.tasks(found, [1, 2], fp32, ENVIRONMENT, cold=True, **limits),
        kernels.tasks(rows, [1, 2], fp32, ENVIRONMENT, quick=False, **limits),
        train.tasks(NAMES[:2], [1], 64, [fp32, torch.bfloat16], ENVIRONMENT),
    ):
        assert len({task.key for task in tasks}) == len(tasks) > 1
    task, *_ = kernels.tasks(rows, [1], fp32, ENVIRONMENT, quick=True, **limits)
    assert task.providers(Selection([])) == ["effops", "reference"]
