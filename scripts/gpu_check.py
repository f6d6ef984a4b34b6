"""What a GPU has to say about effops, in one command: build, tests, sanitizer, benches; a summary and the logs.

    python scripts/gpu_check.py                # everything, about ten minutes
    python scripts/gpu_check.py --only tests   # one step
    python scripts/gpu_check.py --list

It needs a CUDA device, nvcc and a CUDA build of torch, and no network. Every step has a time limit and its own log;
a step that fails does not stop the next. The benches write their CSV files to bench/results.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SAMPLES = ROOT / "scripts" / "gpu_samples.py"
PYTHON = sys.executable


@dataclass(frozen=True)
class Step:
    """One thing to run.

    Attributes:
        name: on the command line and of the log.
        command: what runs, in the root of the checkout.
        limit: seconds after which it is ended.
        needs: a program that must be on the PATH.
        group: what ``--only`` may call several steps by.
    """

    name: str
    command: tuple[str, ...]
    limit: int
    needs: str = ""
    group: str = ""


def _bench(suite: str, *arguments: str) -> tuple[str, ...]:
    return (
        PYTHON,
        "-m",
        "bench",
        suite,
        "--device",
        "cuda",
        "--dtype" if suite != "train" else "--dtypes",
        "bf16",
        *arguments,
    )


def _sanitized(tool: str) -> Step:
    command = ("compute-sanitizer", "--tool", tool, "--error-exitcode", "1", PYTHON, str(SAMPLES))
    return Step(f"sanitizer-{tool}", command, 90, "compute-sanitizer", "sanitizer")


_MODELS = "efficientnet_b0,mobilenetv3_large_100,mobilenetv2_100"

STEPS = (
    Step("environment", ("nvidia-smi",), 20, "nvidia-smi"),
    Step("build", (PYTHON, "setup.py", "build_ext", "--inplace"), 240, "nvcc"),
    Step("doctor", (PYTHON, "-m", "effops", "doctor"), 60),
    Step("tests", (PYTHON, "-m", "pytest", "-q", "-n", "8", "tests/gpu"), 240),
    _sanitized("memcheck"),
    _sanitized("racecheck"),
    _sanitized("initcheck"),
    Step("bench-kernels", _bench("kernels"), 150, group="bench"),
    Step("bench-models", _bench("models", "--batch", "256,1", "--models", _MODELS), 240, group="bench"),
    Step(
        "bench-train",
        _bench("train", "--batch", "128", "--models", "efficientnet_b0,mobilenetv3_large_100"),
        240,
        group="bench",
    ),
)


def _environment() -> dict[str, str]:
    """CUDA kernels are asked for, for the GPU that is here alone."""
    import torch

    major, minor = torch.cuda.get_device_capability()
    return {**os.environ, "EFFOPS_CUDA": "1", "TORCH_CUDA_ARCH_LIST": f"{major}.{minor}", "PYTHONUNBUFFERED": "1"}


def _run(step: Step, logs: Path, environment: dict[str, str], left: float) -> tuple[str, float]:
    """What became of a step, and its seconds."""
    if step.needs and shutil.which(step.needs) is None:
        return f"skipped: {step.needs} is not on the PATH", 0.0
    if left < 10:
        return "skipped: no time left", 0.0
    begin = time.monotonic()
    with (logs / f"{step.name}.log").open("w", encoding="utf-8") as log:
        try:
            done = subprocess.run(
                step.command,
                cwd=ROOT,
                env=environment,
                stdout=log,
                stderr=subprocess.STDOUT,
                timeout=min(step.limit, left),
                check=False,
            )
            verdict = "ok" if done.returncode == 0 else f"FAILED with code {done.returncode}"
        except subprocess.TimeoutExpired:
            verdict = "FAILED: out of time"
    return verdict, time.monotonic() - begin


def _tail(log: Path, lines: int) -> str:
    return "\n".join(log.read_text(encoding="utf-8", errors="replace").splitlines()[-lines:]) if log.exists() else ""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__.split("\n\n")[0], formatter_class=argparse.RawTextHelpFormatter
    )
    names = ", ".join(step.name for step in STEPS)
    parser.add_argument("--only", nargs="+", metavar="STEP", help=f"steps or groups: {names}; sanitizer, bench")
    parser.add_argument("--logs", type=Path, default=ROOT / "build" / "gpu-check", help="folder of the logs")
    parser.add_argument("--seconds", type=int, default=570, help="time for everything (default 570)")
    parser.add_argument("--list", action="store_true", help="say what would run, and stop")
    options = parser.parse_args()
    known = {step.name for step in STEPS} | {step.group for step in STEPS if step.group}
    if unknown := sorted(set(options.only or ()) - known):
        parser.error(f"no such step: {', '.join(unknown)}; there are {', '.join(sorted(known))}")
    chosen = [step for step in STEPS if not options.only or {step.name, step.group} & set(options.only)]
    if options.list:
        print("\n".join(f"{step.name:<20} {' '.join(step.command)}" for step in chosen))
        return
    import torch

    if not torch.cuda.is_available():
        parser.exit(2, "gpu_check: no CUDA device, or a torch without CUDA: there is nothing to check here\n")
    options.logs.mkdir(parents=True, exist_ok=True)
    environment = _environment()
    end = time.monotonic() + options.seconds
    verdicts = []
    for step in chosen:
        print(f"== {step.name}", flush=True)
        verdict, seconds = _run(step, options.logs, environment, end - time.monotonic())
        verdicts.append((step.name, verdict, seconds))
        if verdict != "ok" or step.name.startswith("bench") or step.name == "tests":
            print(_tail(options.logs / f"{step.name}.log", 60), flush=True)
    print(f"\n{'step':<20} {'seconds':>8}  verdict")
    for name, verdict, seconds in verdicts:
        print(f"{name:<20} {seconds:8.1f}  {verdict}")
    print(f"logs: {options.logs}")
    sys.exit(any(verdict.startswith("FAILED") for _, verdict, _ in verdicts))


if __name__ == "__main__":
    main()
