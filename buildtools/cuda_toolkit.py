"""Whether CUDA kernels are built, with which nvcc and for which architectures.

They are where nvcc is found and torch is a CUDA build, or where EFFOPS_CUDA=1 asks for them. No GPU is asked for: most
builds run where there is none.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from build_error import BuildError
from find_torch import Torch

DEFAULT_ARCHITECTURES = "8.0;8.6;8.9;9.0;10.0;12.0+PTX"
# Compile flags of every kernel. Divisions of the activations may err by two units in the last place.
NVCC_FLAGS = ("-std=c++17", "-O3", "-prec-div=false")
_OLDEST = (12, 3)  # the first with cudaFuncGetName, which names a kernel in errors


@dataclass(frozen=True)
class Cuda:
    """A CUDA toolkit and the architectures to build for, such as "9.0" or "12.0+PTX"."""

    home: Path
    version: str
    architectures: tuple[str, ...]

    @property
    def nvcc(self) -> Path:
        return self.home / "bin" / "nvcc"

    @property
    def library(self) -> Path:
        found = [self.home / name for name in ("lib64", "lib", "targets/x86_64-linux/lib")]
        return next((path for path in found if (path / "libcudart_static.a").exists()), found[0])

    @property
    def flags(self) -> tuple[str, ...]:
        """What tells nvcc the architectures."""
        flags = []
        for architecture in self.architectures:
            number = architecture.removesuffix("+PTX").replace(".", "")
            flags.append(f"-gencode=arch=compute_{number},code=sm_{number}")
            if architecture.endswith("+PTX"):
                flags.append(f"-gencode=arch=compute_{number},code=compute_{number}")
        return tuple(flags)

    def describe(self) -> str:
        return f"{self.version}, architectures {';'.join(self.architectures)}"


def find_home() -> Path | None:
    """The toolkit of CUDA_HOME, else the one whose nvcc is on the PATH, else the usual place."""
    asked = os.environ.get("CUDA_HOME") or os.environ.get("CUDA_PATH")
    if asked:
        return Path(asked)
    nvcc = shutil.which("nvcc")
    for home in (Path(nvcc).resolve().parents[1] if nvcc else None, Path("/usr/local/cuda")):
        if home and (home / "bin" / "nvcc").exists():
            return home
    return None


def _known_to(nvcc: Path) -> set[str]:
    """Numbers of the architectures that this nvcc compiles for, such as "90"."""
    listed = subprocess.run([str(nvcc), "--list-gpu-arch"], capture_output=True, text=True, check=False).stdout
    return set(re.findall(r"compute_(\w+)", listed))


def _architectures(nvcc: Path, version: str) -> tuple[str, ...]:
    asked = os.environ.get("TORCH_CUDA_ARCH_LIST")
    names = re.split(r"[;, ]+", (asked or DEFAULT_ARCHITECTURES).strip())
    if bad := [name for name in names if not re.fullmatch(r"\d+\.\d+[af]?(\+PTX)?", name)]:
        raise BuildError(
            f"TORCH_CUDA_ARCH_LIST must be a list such as {DEFAULT_ARCHITECTURES}; got {bad[0]!r}",
            "export TORCH_CUDA_ARCH_LIST='9.0', or unset it for the default",
        )
    known = _known_to(nvcc)
    unknown = [name for name in names if name.removesuffix("+PTX").replace(".", "") not in known]
    if unknown and asked:
        raise BuildError(
            f"nvcc {version} does not compile for {', '.join(unknown)} of TORCH_CUDA_ARCH_LIST",
            "name architectures that it knows (nvcc --list-gpu-arch), or install a newer toolkit",
        )
    chosen = [name for name in names if name not in unknown]
    # Without the newest architecture, newer devices still run the newest one's PTX.
    if chosen and not any(name.endswith("+PTX") for name in chosen) and not asked:
        chosen[-1] += "+PTX"
    return tuple(chosen)


def find_cuda(torch: Torch) -> tuple[Cuda | None, str]:
    """The toolkit to build with; or None, and why there is none."""
    setting = os.environ.get("EFFOPS_CUDA", "")
    if setting == "0":
        return None, "EFFOPS_CUDA=0"
    asked = setting != ""
    if not asked and torch.cuda is None:
        return None, "this torch is built for the CPU alone; EFFOPS_CUDA=1 builds the CUDA kernels nevertheless"
    home = find_home()
    nvcc = home / "bin" / "nvcc" if home else None
    if nvcc is None or not nvcc.exists():
        where = f"CUDA_HOME ({home}) has none" if home else "it is neither in CUDA_HOME nor on the PATH"
        if asked:
            raise BuildError(
                f"EFFOPS_CUDA=1 asks for CUDA kernels and nvcc is not found: {where}",
                "install the CUDA toolkit and set CUDA_HOME to it, or unset EFFOPS_CUDA",
            )
        return None, f"nvcc is not found: {where}"
    told = subprocess.run([str(nvcc), "--version"], capture_output=True, text=True, check=False).stdout
    found = re.search(r"V(\d+)\.(\d+)\.\d+", told)
    if found is None:
        raise BuildError(f"{nvcc} does not tell its version", "set CUDA_HOME to a working CUDA toolkit")
    version, number = found.group(0).removeprefix("V"), (int(found.group(1)), int(found.group(2)))
    problem = None
    if number < _OLDEST:
        problem = f"nvcc {version} is too old: {'.'.join(map(str, _OLDEST))} or later is needed"
    elif torch.cuda and int(torch.cuda.split(".")[0]) != number[0]:
        problem = f"nvcc {version} and torch, built for CUDA {torch.cuda}, differ in their major version"
    if problem and asked:
        raise BuildError(problem, "set CUDA_HOME to a toolkit that fits, or unset EFFOPS_CUDA")
    return (None, problem) if problem else (Cuda(home, version, _architectures(nvcc, version)), "")
