"""Registers, spills and shared memory of every CUDA kernel on every architecture that is tuned for.

Usage: python scripts/cuda_resources.py [--check] [--all] [--arch 90 ...] [--source depthwise.cu ...]

Compiles csrc/cuda/*.cu with nvcc (no GPU needed), warnings as errors, and writes csrc/cuda/resources.csv: what changed
since the table was written, or everything with --all; rows of older code leave it. --check compares with the table
instead; exit code 1 when it differs or when a kernel spills. A kernel that reads byte by byte is an error: it copies
vectors whose alignment the compiler has lost.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "buildtools"))

from cuda_toolkit import NVCC_FLAGS, find_home  # noqa: E402

TABLE = ROOT / "csrc" / "cuda" / "resources.csv"
ARCHITECTURES = ("80", "90", "100", "120")
# No element of a tensor is that small.
BYTE_LOAD = re.compile(r"\bld\.(?:volatile\.)?(?:global|shared)[\w.:]*\.[bus]8\s.*")
COLUMNS = ("source", "fingerprint", "kernel", "arch", "registers", "spill_bytes", "stack_bytes", "static_shared_bytes")


class Row(NamedTuple):
    """One kernel on one architecture. The fingerprint is that of the code it was compiled from."""

    source: str
    fingerprint: str
    kernel: str
    arch: str
    registers: int
    spill_bytes: int
    stack_bytes: int
    static_shared_bytes: int


def fingerprint(source: Path) -> str:
    """Of a file and of what it includes, without comments and white space."""
    seen: dict[Path, str] = {}

    def visit(path: Path) -> None:
        if path in seen or "host" in path.parts:
            return
        text = seen[path] = path.read_text()
        for name in re.findall(r'^#include "([^"]+)"', text, re.MULTILINE):
            visit((path.parent / name).resolve())

    visit(source.resolve())
    code = "".join(re.sub(r"//.*|\s", "", seen[path]) for path in sorted(seen))
    return hashlib.sha256((code + " ".join(NVCC_FLAGS)).encode()).hexdigest()[:12]


def sources() -> list[Path]:
    return sorted((ROOT / "csrc" / "cuda").glob("*.cu"))


def _demangled(names: Iterable[str]) -> dict[str, str]:
    """Kernels' names as their source has them, without namespaces and parameters."""
    names = list(dict.fromkeys(names))
    text = subprocess.run(["c++filt"], input="\n".join(names), capture_output=True, text=True, check=True).stdout
    short = []
    for line in text.splitlines():
        line = re.sub(r"\(anonymous namespace\)::|effops::cuda::|effops::|^void ", "", line)
        short.append(re.sub(r"\([^()]*\)$", "", line))
    return dict(zip(names, short, strict=True))


def compile_one(source: Path, arch: str, nvcc: Path) -> list[Row]:
    """What ptxas tells about the kernels of one file."""
    with tempfile.TemporaryDirectory() as folder:
        command = [str(nvcc), *NVCC_FLAGS, "-Werror", "all-warnings", f"-arch=sm_{arch}", "--resource-usage", "-cubin"]
        command += ["--keep", "--keep-dir", folder, str(source), "-o", f"{folder}/kernels.cubin"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        text = done.stdout + done.stderr
        if done.returncode != 0:
            raise SystemExit(f"{' '.join(command)}\n{text}")
        if load := BYTE_LOAD.search("".join(path.read_text() for path in Path(folder).glob("*.ptx"))):
            raise SystemExit(f"{source.name} reads byte by byte on sm_{arch}: {load.group()}")
    found = []
    for part in re.split(r"Compiling entry function ", text)[1:]:
        name = re.match(r"'(\w+)'", part).group(1)
        stack, stores = re.search(r"(\d+) bytes stack frame, (\d+) bytes spill stores", part).groups()
        shared = re.search(r"(\d+) bytes smem", part)
        registers = re.search(r"Used (\d+) registers", part).group(1)
        counts = int(registers), int(stores), int(stack), int(shared.group(1)) if shared else 0
        found.append(Row(source.name, fingerprint(source), name, arch, *counts))
    names = _demangled(row.kernel for row in found)
    return [row._replace(kernel=names[row.kernel]) for row in found]


def _ordered(rows: Iterable[Row]) -> list[Row]:
    return sorted(rows, key=lambda row: (row.source, row.kernel, int(row.arch)))


def measure(pairs: Iterable[tuple[Path, str]], nvcc: Path, jobs: int = 2) -> list[Row]:
    """The rows of these files on these architectures, in the order of the table."""
    with ThreadPoolExecutor(jobs) as pool:
        return _ordered(row for found in pool.map(lambda pair: compile_one(*pair, nvcc), pairs) for row in found)


def recorded() -> list[Row]:
    """The rows of the committed table."""
    with TABLE.open(newline="") as file:
        return [Row(*row[:4], *map(int, row[4:])) for row in list(csv.reader(file))[1:]]


def spills(rows: Iterable[Row]) -> list[str]:
    """Kernels that keep registers in memory."""
    return [f"{row.kernel} on sm_{row.arch}: {row.spill_bytes} bytes" for row in rows if row.spill_bytes > 0]


def differences(rows: list[Row], known: list[Row]) -> list[str]:
    """Where rows differ from the known ones of the same files and architectures."""
    pairs = {(row.source, row.arch) for row in rows}
    known = [row for row in known if (row.source, row.arch) in pairs]
    lines = [f"only in the table: {', '.join(map(str, row))}" for row in known if row not in rows]
    return lines + [f"not in the table: {', '.join(map(str, row))}" for row in rows if row not in known]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--check", action="store_true", help="compare with the table instead of writing it")
    parser.add_argument("--all", action="store_true", help="compile also what has not changed")
    parser.add_argument("--arch", nargs="+", default=list(ARCHITECTURES), help="compute capabilities, such as 90")
    parser.add_argument("--source", nargs="+", help="files of csrc/cuda; all unless given")
    parser.add_argument("--jobs", type=int, default=2, help="compilations side by side")
    options = parser.parse_args()
    home = find_home()
    if home is None or shutil.which("c++filt") is None:
        print("nvcc (CUDA_HOME or PATH) and c++filt are needed", file=sys.stderr)
        return 2
    chosen = [path for path in sources() if options.source is None or path.name in options.source]
    known = recorded() if TABLE.exists() else []
    current = {(row.source, row.fingerprint, row.arch) for row in known}
    everything = options.all or options.check
    pairs = [(p, a) for p in chosen for a in options.arch if everything or (p.name, fingerprint(p), a) not in current]
    rows = measure(pairs, home / "bin" / "nvcc", options.jobs)
    found = differences(rows, known) if options.check else []
    if not options.check:
        done, prints = {(p.name, a) for p, a in pairs}, {(p.name, fingerprint(p)) for p in sources()}
        kept = [row for row in known if (row.source, row.arch) not in done and (row.source, row.fingerprint) in prints]
        with TABLE.open("w", newline="") as file:
            csv.writer(file, lineterminator="\n").writerows([COLUMNS, *_ordered([*kept, *rows])])
    found += spills(rows)
    print("\n".join(found) or f"{len(rows)} kernels compiled: none spills")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
