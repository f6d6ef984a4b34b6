"""The CSV: what is written is read back, whole files only, and other files are refused."""

from __future__ import annotations

import csv
import subprocess

import pytest

from bench import environment
from bench.errors import BenchError
from bench.record import COLUMNS, read, write
from tests.bench.rows import op_row, row, train_row, untimed


def test_rows_survive_the_round_trip(tmp_path):
    rows = [
        row("effops", 0.1 + 0.2),
        op_row("effops", 1 / 3),
        train_row("effops", 0.1),
        untimed("compile", "failed", 'CppCompileError: "no", g++\nmissing'),
    ]
    path = tmp_path / "new folder" / "results.csv"
    write(rows, path)
    assert read(path) == rows


def test_every_row_carries_the_environment(tmp_path):
    path = tmp_path / "results.csv"
    write([row("effops", 1.0), row("eager", 2.0)], path)
    with path.open(newline="") as file:
        cells = list(csv.DictReader(file))
    for line in cells:
        assert line["torch"] == "2.13.0+cpu"
        assert line["cpu"] == 'Some "CPU", 2 cores'
        assert line["threads"] == "2"
        assert line["git_sha"] == "abc1234+"


def test_a_failed_write_leaves_the_old_file_and_no_other(tmp_path):
    path = tmp_path / "results.csv"
    write([row("effops", 1.0)], path)

    def rows():
        yield row("effops", 2.0)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write(rows(), path)
    assert read(path) == [row("effops", 1.0)]
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "lacks the columns"),
        (b"model,batch\nx,1\n", "lacks the columns"),
        (b"\x89PNG\r\n\x1a\n\xff\xfe", "is no CSV"),
        ((",".join(COLUMNS) + "\n").encode(), "holds no rows"),
        ((",".join(COLUMNS) + "\n" + ",".join("x" for _ in COLUMNS) + "\n").encode(), "is no CSV"),
        ((",".join(COLUMNS) + "\nmodels,a\n").encode(), "is no CSV"),
    ],
)
def test_other_files_are_refused(tmp_path, content, said):
    path = tmp_path / "other.csv"
    path.write_bytes(content)
    with pytest.raises(BenchError, match=said):
        read(path)


def test_files_from_before_memory_was_measured_are_read(tmp_path):
    path = tmp_path / "old.csv"
    write([row("effops", 1.0)], path)
    with path.open(newline="") as file:
        cells = list(csv.DictReader(file))
    kept = [name for name in COLUMNS if name not in ("held_bytes", "peak_bytes")]
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, kept, extrasaction="ignore")
        writer.writeheader()
        writer.writerows(cells)
    assert read(path) == [row("effops", 1.0)]


def test_a_missing_file_is_refused_with_the_remedy(tmp_path):
    with pytest.raises(BenchError, match="python -m bench models"):
        read(tmp_path / "missing.csv")


def test_the_csv_that_a_run_writes_is_no_change_of_the_checkout(tmp_path, monkeypatch):
    def git(*arguments: str) -> None:
        who = ["-c", "user.name=a", "-c", "user.email=a@b.c"]
        subprocess.run(["git", *who, *arguments], cwd=tmp_path, check=True, capture_output=True)

    code, results = tmp_path / "code.py", tmp_path / "bench" / "results" / "models.csv"
    results.parent.mkdir(parents=True)
    for file in (code, results):
        file.write_text("before")
    git("init")
    git("add", ".")
    git("commit", "-m", "first")
    monkeypatch.setattr(environment, "ROOT", tmp_path)
    results.write_text("after")
    assert environment.capture().git_sha and not environment.capture().git_sha.endswith("+")
    code.write_text("after")
    assert environment.capture().git_sha.endswith("+")


def test_the_environment_of_this_process_is_complete():
    here = environment.capture()
    assert here.threads >= 1
    assert here.last_level_cache_bytes > 0
    assert all([here.date, here.torch, here.effops, here.python, here.cpu, here.affinity, here.isa])
