"""Command-line arguments as values, with errors that teach."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch

from .environment import ROOT, Environment
from .errors import BenchError, unknown
from .timing import Schedule

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
USUAL_DTYPES = ("fp32", "bf16")
BATCHES = (1, 8)
RESULTS = ROOT / "bench" / "results"

_QUICK_ROUNDS = 5


def names(text: str) -> list[str]:
    """A list such as "efficientnet_b0,mobilenetv2_100", without repetitions."""
    return list(dict.fromkeys(part for part in re.split(r"[,\s]+", text) if part))


def numbers(option: str, text: str) -> list[int]:
    """A list of positive numbers such as "1,8"."""
    values = []
    for part in names(text):
        if not part.isdecimal() or int(part) < 1:
            raise BenchError(f"{option} takes positive numbers separated by commas, such as 1,8; got {part!r}")
        values.append(int(part))
    return values


def sweep(option: str, text: str, usual: Sequence[int]) -> Sequence[int]:
    """Numbers such as "1,8", the usual ones without any, and nothing for "none"."""
    return () if text.strip().lower() == "none" else numbers(option, text) or usual


def batches(text: str, *, quick: bool, usual: Sequence[int] = BATCHES) -> list[int]:
    """Batch sizes such as "1,8"; without any the usual ones, of which a quick run takes the first."""
    return numbers("--batch", text) or list(usual[:1] if quick else usual)


def dtype(text: str) -> torch.dtype:
    if text not in DTYPES:
        raise unknown("dtype", text, DTYPES, f"the dtypes are {', '.join(DTYPES)}")
    return DTYPES[text]


def dtypes(text: str) -> list[torch.dtype]:
    """Dtypes such as "fp32,bf16", which are the usual ones."""
    return [dtype(name) for name in names(text) or USUAL_DTYPES]


def positive(option: str, value: int | None) -> None:
    if value is not None and value < 1:
        raise BenchError(f"{option} must be at least 1; got {value}")


def schedule(usual: Schedule, rounds: int | None, *, quick: bool) -> Schedule:
    """The usual schedule of a suite, or a quick one; ``--rounds`` wins over both."""
    positive("--rounds", rounds)
    if quick:
        usual = replace(
            usual,
            rounds=_QUICK_ROUNDS,
            sample_seconds=usual.sample_seconds / 2,
            warmup_seconds=usual.warmup_seconds / 4,
        )
    return usual if rounds is None else replace(usual, rounds=rounds, case_seconds=None)


def writable(option: str, folder: Path) -> None:
    """Make a folder and find out, before hours of measuring, whether files can be written there.

    Raises:
        BenchError: they cannot.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except (FileExistsError, NotADirectoryError) as error:
        raise BenchError(f"{option}: {error.filename} is a file, not a folder; give another") from error
    except OSError as error:
        raise BenchError(f"{option}: cannot write in {folder}: {error.strerror}; give another") from error


def output(
    path: Path | None, suite: str, dtypes: Sequence[torch.dtype], environment: Environment, *, quick: bool
) -> Path:
    """The CSV to write: one file a suite, choice of dtypes, and processor or GPU, unless told otherwise."""
    if path is not None:
        if path.is_dir():
            raise BenchError(f"--output must be a CSV file; {path} is a folder")
        return path
    short = "-".join(str(dtype).removeprefix("torch.") for dtype in dtypes)
    return RESULTS / f"{suite}-{short}-{environment.machine}{'-quick' if quick else ''}.csv"
