"""Resolves what will be built from the environment variables and the machine, or says why it cannot be."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from build_error import BuildError
from cuda_toolkit import Cuda, find_cuda
from find_torch import REQUIREMENT, Torch, find_torch

CSRC = Path(__file__).resolve().parent.parent / "csrc"
# LibTorch Stable ABI of torch 2.11: one build runs on every later release.
TORCH_TARGET_VERSION = "0x020b000000000000"


@dataclass(frozen=True)
class Tier:
    """One instruction set: the suffix of its kernels_<name>.cpp and its compile flags."""

    name: str
    flags: tuple[str, ...]


@dataclass(frozen=True)
class Config:
    """A resolved build."""

    compiler: str
    compiler_version: str
    torch: Torch
    tiers: tuple[Tier, ...]
    cuda: Cuda | None
    why_no_cuda: str
    debug: bool
    jobs: int

    @property
    def flags(self) -> tuple[str, ...]:
        return ("-g", "-O1") if self.debug else ("-O3",)

    def describe(self) -> str:
        rows = {
            "compiler": f"{self.compiler} ({self.compiler_version})",
            "flags": " ".join(self.flags),
            "CPU tiers": ", ".join(tier.name for tier in self.tiers),
            "torch": f"{self.torch.version} at {self.torch.root}",
            "torch ABI": f"stable, target {TORCH_TARGET_VERSION}",
            "CUDA": self.cuda.describe() if self.cuda else f"none: {self.why_no_cuda}",
            "jobs": str(self.jobs),
        }
        return "\n".join(["effops build configuration", *(f"  {name:<10} {value}" for name, value in rows.items())])


def read_tiers(machine: str) -> tuple[Tier, ...]:
    """The tiers of csrc/cpu/isa_flags.txt that this kind of processor can have."""
    lines = (CSRC / "cpu" / "isa_flags.txt").read_text().splitlines()
    rows = [line.split() for line in lines if line and not line.startswith("#")]
    tiers = tuple(Tier(name, tuple(flags)) for name, *flags in rows)
    return tiers if machine in ("x86_64", "AMD64") else tiers[:1]


def _compiler() -> str:
    asked = os.environ.get("CXX")
    for candidate in (asked,) if asked else ("g++", "clang++", "c++"):
        if shutil.which(candidate.split()[0]):
            return candidate
    raise BuildError(
        f"no C++ compiler ({asked or 'g++ or clang++'}) is on the PATH",
        "install one (Debian and Ubuntu: apt-get install g++), set CXX to one, "
        "or install without kernels: EFFOPS_SKIP_EXT=1 pip install .",
    )


def _torch() -> Torch:
    torch = find_torch()
    if torch is None:
        raise BuildError("torch is not installed in this environment", f"pip install '{REQUIREMENT}', then build again")
    if not torch.is_recent_enough:
        raise BuildError(
            f"torch {torch.version} is too old: the stable ABI it needs came with 2.11",
            f"pip install --upgrade '{REQUIREMENT}', then build again",
        )
    return torch


def _jobs() -> int:
    asked = os.environ.get("MAX_JOBS")
    if asked:
        if not asked.isdigit() or int(asked) < 1:
            raise BuildError(f"MAX_JOBS must be a positive number; got {asked!r}", "MAX_JOBS=2 pip install .")
        return int(asked)
    # A kernel file takes about a gigabyte of the compiler's memory at its worst.
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2**30
    return max(1, min(os.cpu_count() or 1, memory))


def skip_extension() -> bool:
    """Whether a pure-Python install was asked for: ops then run on the reference."""
    return os.environ.get("EFFOPS_SKIP_EXT", "0") not in ("", "0")


def resolve() -> Config:
    """Check everything that the build needs before anything is compiled."""
    if not sys.platform.startswith("linux"):
        raise BuildError(
            f"the kernels build on Linux only; this is {sys.platform}",
            "install without kernels: EFFOPS_SKIP_EXT=1 pip install .",
        )
    compiler = _compiler()
    version = subprocess.run([*compiler.split(), "--version"], capture_output=True, text=True, check=False).stdout
    torch = _torch()
    cuda, why_no_cuda = find_cuda(torch)
    return Config(
        compiler=compiler,
        compiler_version=version.splitlines()[0] if version else "unknown version",
        torch=torch,
        tiers=read_tiers(platform.machine()),
        cuda=cuda,
        why_no_cuda=why_no_cuda,
        debug=os.environ.get("DEBUG", "0") not in ("", "0"),
        jobs=_jobs(),
    )
