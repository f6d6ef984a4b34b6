"""Builds the CUDA kernels and their bindings for the host: ``torch.ops.effops_cuda_host``, on CPU tensors.

The kernels' own source, compiled by g++ with the header csrc/cuda/host/block.h, which gives CUDA's words a meaning.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch

from effops.ops.table import OPS

ROOT = Path(__file__).resolve().parents[2]
CSRC = ROOT / "csrc"
NAMESPACE = "effops_cuda_host"
ORDERS = ("forward", "reverse", "shuffled")

# The kernels mean fused multiply-adds where they write them, and read shared memory as vectors.
KERNEL_FLAGS = ("-x", "c++", "-std=c++17", "-Wno-unknown-pragmas", "-ffp-contract=off", "-fno-strict-aliasing")
_FLAGS = ("-O2", "-Wall", "-Wextra", "-fPIC", "-fno-gnu-unique", "-U_FORTIFY_SOURCE", "-DEFFOPS_CUDA_HOST", "-MMD")
_BINDING_FLAGS = (
    "-std=c++20",
    "-DTORCH_TARGET_VERSION=0x020b000000000000",
    "-fvisibility=hidden",
    f"-isystem{Path(torch.__file__).parent / 'include'}",
)


def compiler() -> str | None:
    """g++, or None where there is none."""
    return shutil.which("g++")


def _run(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout}{done.stderr}"


def _is_current(target: Path, command: list[str]) -> bool:
    """Whether a target was made by this very command and is newer than everything that it was made of."""
    depends, recipe = target.with_suffix(".d"), target.with_suffix(".cmd")
    if not all(path.exists() for path in (target, depends, recipe)) or recipe.read_text() != " ".join(command):
        return False
    files = depends.read_text().replace("\\\n", " ").split(": ", 1)[-1].split()
    made = target.stat().st_mtime
    return all(Path(file).exists() and Path(file).stat().st_mtime <= made for file in files)


def _compile(source: Path, folder: Path, flags: tuple[str, ...]) -> Path:
    target = folder / f"{source.parent.name}_{source.stem}.o"
    command = [compiler(), *_FLAGS, *flags, "-c", str(source), "-o", str(target)]
    if not _is_current(target, command):
        _run(command)
        target.with_suffix(".cmd").write_text(" ".join(command))
    return target


def build(folder: Path = ROOT / "build" / "cuda_host") -> Path:
    """The shared library, compiled where it is older than its sources."""
    folder.mkdir(parents=True, exist_ok=True)
    units = [(source, KERNEL_FLAGS) for source in sorted((CSRC / "cuda").glob("*.cu"))]
    units += [(source, KERNEL_FLAGS) for source in sorted((CSRC / "cuda" / "host").glob("*.cpp"))]
    units += [(source, _BINDING_FLAGS) for source in sorted((CSRC / "torch").glob("ops_cuda*.cpp"))]
    with ThreadPoolExecutor(int(os.environ.get("MAX_JOBS") or os.cpu_count() or 1)) as pool:
        objects = list(pool.map(lambda unit: _compile(unit[0], folder, unit[1]), units))
    library = folder / "libeffops_cuda_host.so"
    if not library.exists() or any(o.stat().st_mtime > library.stat().st_mtime for o in objects):
        partial = library.with_suffix(".partial")
        torch_lib = f"-L{Path(torch.__file__).parent / 'lib'}"
        # -Bsymbolic: no name of this library may mean what another one loaded first.
        link = [compiler(), "-shared", "-Wl,-Bsymbolic", *map(str, objects), torch_lib, "-ltorch_cpu", "-ldl"]
        _run([*link, "-o", str(partial)])
        partial.replace(library)
    return library


def build_program(source: Path, folder: Path = ROOT / "build" / "cuda_host") -> Path:
    """A program of one file with kernels and what runs them."""
    folder.mkdir(parents=True, exist_ok=True)
    units = [(source, (*KERNEL_FLAGS, f"-I{CSRC}")), (CSRC / "cuda" / "host" / "run.cpp", KERNEL_FLAGS)]
    objects = [_compile(path, folder, flags) for path, flags in units]
    program = folder / source.stem
    _run([compiler(), "-rdynamic", *map(str, objects), "-o", str(program), "-ldl"])
    return program


class Host:
    """The loaded library: the order in which its launches run, and what its guards have seen."""

    def __init__(self) -> None:
        path = build()
        self.definitions = torch.library.Library(NAMESPACE, "DEF")
        for op in OPS.values():
            if "cuda" in op.backends.get("cuda", ()):
                self.definitions.define(op.name + op.schema)
        torch.ops.load_library(path)
        self.functions = ctypes.CDLL(str(path))
        self.functions.effops_host_violations.restype = ctypes.c_int64
        self.functions.effops_host_order.argtypes = (ctypes.c_int, ctypes.c_int64)
        self.fuse_what_fits(True)

    def set_order(self, order: str, seed: int = 1) -> None:
        """Blocks, warps and lanes of the launches that follow run in this order."""
        self.functions.effops_host_order(ORDERS.index(order), seed)

    def fuse_what_fits(self, on: bool) -> None:
        """Blocks run as one kernel wherever that is possible, or only where it pays: samples are small."""
        self.functions.effops_host_fuse_what_fits(int(on))

    def violations(self) -> int:
        """Outputs since the last call whose neighbours in memory were written."""
        return self.functions.effops_host_violations()
