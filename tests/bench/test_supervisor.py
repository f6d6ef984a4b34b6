"""A run that dies says of what and where, keeps what was done, and goes on without the provider that died."""

from __future__ import annotations

import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from bench import supervisor
from bench.progress import CaseWatcher
from bench.record import CaseKey, read
from bench.supervisor import Board, Death, Died, Place
from bench.tables import console

pytestmark = pytest.mark.skipif(not hasattr(signal, "sigwaitinfo"), reason="nothing is watched on this platform")

# Importing torch takes long on a machine that is busy with other tests.
_PATIENCE_S = 300

KEY = CaseKey("models", "net", 1, 224, "float32", "warm")

# Two cases of a convolution against peers that behave as they are told.
RUN = """
import ctypes, os, signal, sys, time
from dataclasses import replace
from pathlib import Path
from bench.supervisor import supervise
supervise()
import torch
import typer
from bench.commands.run import Run
from bench.errors import BenchError
from bench.peers.eager import Eager
from bench.peers.effops import EffopsModules
from bench.selection import Selection
from bench.tables import models_table
from bench.timing import Schedule
from tests.bench.rows import ENVIRONMENT
from tests.bench.test_resume import SmallTask

class Odd(Eager):
    name = "odd"

    def prepare(self, case):
        provider = super().prepare(case)
        {prepare}
        return provider

peers = [EffopsModules(), Odd(), Eager()]
plan = Schedule(rounds=2, sample_seconds=0.0, warmup_seconds=0.0)
tasks = [SmallTask("first"), SmallTask("second")]
try:
    Run(Selection(peers), plan, ENVIRONMENT, Path(sys.argv[1])).finish(tasks, models_table)
except typer.Exit as end:
    sys.exit(end.exit_code)
"""


def script(code: str) -> list[str]:
    return [sys.executable, "-c", textwrap.dedent(code)]


def ran(code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*script(code), *arguments], capture_output=True, text=True, timeout=_PATIENCE_S)


def test_the_board_is_read_as_it_was_written():
    place = Place("a.csv", True, ["models", 1, None], "net", "eager", "timing eager")
    board = Board()
    assert board.read() == Place()
    board.write(place)
    assert board.read() == place
    # What does not fit leaves what was there.
    board.write(Place(label="x" * 10_000))
    assert board.read() == place


def test_exit_codes_and_output_are_those_of_the_command():
    done = ran("from bench.supervisor import supervise; supervise(); print('hello'); raise SystemExit(3)")
    assert (done.returncode, done.stdout, done.stderr) == (3, "hello\n", "")


def test_a_death_outside_of_a_provider_ends_the_run_and_says_where():
    done = ran("""
        import os, signal
        from bench.supervisor import Place, board, supervise
        supervise()
        board.write(Place(output="a.csv", written=True, label="net batch 64", doing="float64 result"))
        os.kill(os.getpid(), signal.SIGABRT)
    """)
    assert done.returncode == 128 + signal.SIGABRT
    assert "the run was ended by SIGABRT while float64 result in net batch 64" in done.stderr
    assert "finished cases are in a.csv; the same command with --resume goes on" in done.stderr


@pytest.mark.parametrize("second", ["pass", "board.write(place)"], ids=["early", "the same again"])
def test_nothing_dies_for_ever(second):
    done = ran(f"""
        import os, signal
        from bench.supervisor import Place, board, deaths, supervise
        supervise()
        place = Place(output="a.csv", written=True, case=["ops"], provider="copy", doing="timing copy")
        if deaths:
            {second}
        else:
            board.write(place)
        os.kill(os.getpid(), signal.SIGSEGV)
    """)
    assert done.returncode == 128 + signal.SIGSEGV
    assert done.stderr.count("the run was ended by SIGSEGV") == 2
    assert done.stderr.count("copy is disqualified there") == 1
    assert done.stderr.count("finished cases are in a.csv; the same command with --resume goes on") == 1


def test_a_kill_from_outside_disqualifies_nobody():
    if supervisor._killed_for_memory() is None:
        pytest.skip("this kernel does not tell whom it killed for memory")
    done = ran("""
        import os, signal
        from bench.supervisor import Place, board, supervise
        supervise()
        board.write(Place(provider="eager", doing="timing eager"))
        os.kill(os.getpid(), signal.SIGKILL)
    """)
    assert done.returncode == 128 + signal.SIGKILL
    assert "was ended by SIGKILL from outside while timing eager" in done.stderr
    assert "disqualified" not in done.stderr


@pytest.mark.parametrize(("kills", "said"), [(None, "out of memory?"), (-1, "out of memory")])
def test_a_kill_for_memory_is_the_providers_own_doing(kills, said):
    how, own_doing = supervisor._how(signal.SIGKILL, kills)
    assert how == f"was ended by SIGKILL: {said}"
    assert own_doing


def test_who_died_is_not_let_in_again(monkeypatch, tmp_path):
    place = Place("a.csv", True, list(KEY), "net", "odd", "compiling odd")
    monkeypatch.setattr(supervisor, "deaths", [Death(place, "was ended by SIGSEGV")])
    watcher = CaseWatcher(console(), 1, tmp_path / "a.csv")
    watcher.start_case("net", KEY)
    with pytest.raises(Died, match="its process was ended by SIGSEGV while compiling odd"):
        watcher.enter("odd", "compiling")
    watcher.enter("eager", "preparing")
    watcher.start_case("other", KEY._replace(batch=8))
    watcher.enter("odd", "compiling")
    assert supervisor.goes_on()


def test_a_run_of_which_no_case_was_finished_begins_anew(monkeypatch):
    monkeypatch.setattr(supervisor, "deaths", [Death(Place(case=list(KEY), provider="odd"), "was ended by SIGSEGV")])
    assert not supervisor.goes_on()


def test_a_peer_that_kills_the_process_is_disqualified_by_name_and_the_others_go_on(tmp_path):
    path = tmp_path / "rows.csv"
    # It dies in the second case alone: when it is timed, not when it is judged.
    die = """calls = []
        def function(x):
            calls.append(1)
            if len(calls) > 1 and Path(sys.argv[1]).exists():
                ctypes.string_at(0)
            return case.module(x)
        provider = replace(provider, function=function)"""
    done = ran(RUN.replace("{prepare}", die), str(path))
    found = {(row.case, row.provider): row for row in read(path)}
    assert [key for key in found if found[key].status != "ok"] == [("second", "odd")], done.stderr
    assert found["second", "odd"].reason == "Died: its process was ended by SIGSEGV while timing odd"
    assert len(found) == 6
    assert "the run was ended by SIGSEGV while timing odd in second" in done.stderr
    assert "odd is disqualified there; going on without it" in done.stderr
    assert "1 of 2 cases are in" in done.stdout
    assert "odd failed (second batch 1)" in done.stdout
    assert done.returncode == 0


@pytest.mark.parametrize(
    ("request_", "code"),
    [
        (signal.SIGTERM, 143),
        pytest.param(signal.SIGHUP, 129, marks=pytest.mark.slow),
        pytest.param(signal.SIGINT, 130, marks=pytest.mark.slow),
    ],
)
def test_a_request_to_end_is_told_and_keeps_what_was_done(tmp_path, request_, code):
    path = tmp_path / "rows.csv"
    wait = "while Path(sys.argv[1]).exists(): time.sleep(0.05)"
    with _started(RUN.replace("{prepare}", wait), str(path)) as run:
        end = time.monotonic() + _PATIENCE_S
        while not path.exists() and run.poll() is None and time.monotonic() < end:
            time.sleep(0.05)
        run.send_signal(request_)
        _, said = run.communicate(timeout=_PATIENCE_S)
    assert run.returncode == code, said
    assert f"finished cases are in {path}; the same command with --resume goes on" in said
    assert ("interrupted" if request_ == signal.SIGINT else f"stopped by {request_.name}") in said
    assert "Traceback" not in said
    assert {row.case for row in read(path)} == {"first"}


@contextmanager
def _started(code: str, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen([*script(code), *arguments], **pipes) as run:
        try:
            yield run
        finally:
            run.terminate()
