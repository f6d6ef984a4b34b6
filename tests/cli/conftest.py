"""Running the command in this process, with what it printed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch

from effops.cli import main
from effops.models import create_model
from effops.ops import backends, extension


@dataclass(frozen=True)
class Finished:
    """How a command ended."""

    code: int
    out: str
    err: str


Run = Callable[..., Finished]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Iterator[Run]:
    """Runs ``effops`` with these arguments, on a terminal so wide that no line is broken."""
    monkeypatch.setenv("COLUMNS", "2000")

    def effops(*arguments: object) -> Finished:
        with pytest.raises(SystemExit) as exit_info:
            main([str(argument) for argument in arguments])
        printed = capsys.readouterr()
        return Finished(exit_info.value.code or 0, printed.out, printed.err)

    threads = torch.get_num_threads()
    yield effops
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def small_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of mobilenetv2_035 with 10 classes and random weights."""
    path = tmp_path_factory.mktemp("checkpoints") / "mobilenetv2_035.pth"
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        torch.save(create_model("mobilenetv2_035", num_classes=10).state_dict(), path)
    return path


@pytest.fixture
def without_extension(monkeypatch: pytest.MonkeyPatch) -> str:
    """effops as if its C++ extension had never been built; the value is the reason that it gives."""
    reason = "effops was installed without its C++ extension; rebuild it"
    monkeypatch.setattr(extension, "module", None)
    monkeypatch.setattr(extension, "load_error", reason)
    monkeypatch.setitem(backends.BACKENDS, "cpu", replace(backends.BACKENDS["cpu"], missing=reason))
    return reason
