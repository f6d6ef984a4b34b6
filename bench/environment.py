"""Where a row was measured. Every CSV row carries all of it, so that a row can be read alone, years later."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
import subprocess
from dataclasses import dataclass
from datetime import datetime, timezone
from itertools import groupby
from pathlib import Path

import torch

from . import device

ROOT = Path(__file__).resolve().parents[1]
_PACKAGES = ("timm", "torchvision", "onnx", "onnxscript", "onnxruntime", "openvino")
_CACHES = Path("/sys/devices/system/cpu/cpu0/cache")


@dataclass(frozen=True)
class Environment:
    """Machine and software of a run.

    Attributes:
        effops: version, or "not importable".
        backend: what EFFOPS_BACKEND forces, or "default": effops chooses.
        git_sha: commit of the checkout, with "+" when files differ from it; empty outside a checkout.
        device: "cpu", or the name of the GPU that the run computed on.
        packages: the libraries and engines of the peers with their versions, separated by spaces.
        isa: the instruction set that effops' kernels use, or "none" without the C++ extension.
        torch_isa: the instruction set that torch's own kernels use.
        threads: torch's intra-op threads.
        affinity: processors that the process may run on.
        last_level_cache_bytes: of the device; what a rotation of buffers has to exceed.
    """

    date: str
    torch: str
    effops: str
    backend: str
    git_sha: str
    python: str
    system: str
    cpu: str
    isa: str
    torch_isa: str
    threads: int
    affinity: str
    last_level_cache_bytes: int
    device: str = "cpu"
    packages: str = ""

    @property
    def machine(self) -> str:
        """A name for files. Virtual processors may all be called the same, so that it tells what effops runs on."""
        on_cpu = self.device == "cpu"
        parts = (self.cpu, self.isa, f"{self.threads}t") if on_cpu else (self.device,)
        return re.sub(r"[^a-z0-9]+", "-", "-".join(parts).lower()).strip("-")


def _cpu_model() -> str:
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return platform.processor() or "unknown"
    found = re.search(r"^model name\s*:\s*(.+)$", text, re.MULTILINE)
    return found[1].strip() if found else platform.processor() or "unknown"


def last_level_cache_bytes() -> int:
    """Size of the largest cache of processor 0; 32 MiB where the system does not tell."""
    units = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30}
    sizes = []
    for file in _CACHES.glob("index*/size"):
        text = file.read_text(encoding="ascii").strip()
        sizes.append(int(text[:-1]) * units[text[-1]] if text[-1:] in units else int(text))
    return max(sizes, default=32 << 20)


def _affinity() -> str:
    """The processors that this process may run on, as ranges: "0-3 8"."""
    if not hasattr(os, "sched_getaffinity"):
        return f"any of {os.cpu_count()}"
    allowed = sorted(os.sched_getaffinity(0))
    # Numbers in a row differ from their index by the same amount.
    runs = [list(run) for _, run in groupby(allowed, key=lambda cpu: cpu - allowed.index(cpu))]
    return " ".join(str(run[0]) if len(run) == 1 else f"{run[0]}-{run[-1]}" for run in runs)


def _git(*arguments: str) -> str:
    try:
        done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def _git_sha() -> str:
    sha = _git("rev-parse", "--short", "HEAD")
    # The CSV that a run writes is no change of what it measures.
    changed = _git("status", "--porcelain", "--untracked-files=no", "--", ".", ":!bench/results")
    return f"{sha}+" if sha and changed else sha


def _effops() -> tuple[str, str]:
    """Version and kernel instruction set of effops."""
    try:
        import effops
        from effops.ops import extension
    except ImportError:
        return "not importable", "none"
    return effops.__version__, "none" if extension.module is None else extension.module.isa()


def _packages() -> str:
    found = []
    for name in _PACKAGES:
        try:
            found.append(f"{name} {importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            continue
    return " ".join(found)


def capture() -> Environment:
    """The environment of this process, now."""
    effops_version, isa = _effops()
    return Environment(
        date=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        torch=torch.__version__,
        effops=effops_version,
        backend=os.environ.get("EFFOPS_BACKEND") or "default",
        git_sha=_git_sha(),
        python=platform.python_version(),
        system=f"{platform.system()} {platform.machine()}",
        cpu=_cpu_model(),
        device=device.name(),
        isa=isa,
        torch_isa=torch.backends.cpu.get_cpu_capability(),
        threads=torch.get_num_threads(),
        affinity=_affinity(),
        last_level_cache_bytes=device.cache_bytes(last_level_cache_bytes()),
        packages=_packages(),
    )
