"""The build_ext command: compiles csrc/ with one set of flags an instruction set and links effops._C."""

from __future__ import annotations

import shlex
import subprocess
import sysconfig
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from build_error import BuildError
from config import CSRC, TORCH_TARGET_VERSION, Config, resolve
from cuda_toolkit import NVCC_FLAGS
from setuptools import Extension
from setuptools.command.build_ext import build_ext

# GCC 12's own AVX-512 headers trip these two.
_WARNINGS = ("-Wall", "-Wextra", "-Wno-maybe-uninitialized", "-Wno-uninitialized")


@dataclass(frozen=True)
class Unit:
    """One source file and its flags."""

    source: Path
    flags: tuple[str, ...]


def _quote(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _units(config: Config, generated: Path) -> list[Unit]:
    kernels = ("-std=c++17", *config.flags)
    binding = (
        "-std=c++20",
        *config.flags,
        f"-DTORCH_TARGET_VERSION={TORCH_TARGET_VERSION}",
        "-fvisibility=hidden",
        f"-I{generated}",
        f"-isystem{config.torch.root / 'include'}",
        f"-isystem{sysconfig.get_path('include')}",
    )
    units = [Unit(CSRC / "cpu" / f"kernels_{tier.name}.cpp", (*kernels, *tier.flags)) for tier in config.tiers]
    units += [Unit(source, kernels) for source in sorted((CSRC / "cpu").glob("*.cpp")) if "kernels_" not in source.name]
    bindings = sorted((CSRC / "torch").glob("*.cpp"))
    if config.cuda:
        kernels = (*NVCC_FLAGS, *config.cuda.flags)
        units += [Unit(source, kernels) for source in sorted((CSRC / "cuda").glob("*.cu"))]
    else:
        bindings = [source for source in bindings if not source.name.startswith("ops_cuda")]
    units += [Unit(source, binding) for source in bindings]
    # The longest first: what is left at the end then takes all processors.
    return sorted(units, key=lambda unit: unit.source.suffix != ".cu")


def _write_build_info(config: Config, directory: Path) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    facts = {
        "COMPILER": config.compiler_version,
        "BUILD_TORCH": config.torch.version,
        "BUILD_FLAGS": " ".join(config.flags),
        "BUILD_TIERS": ", ".join(tier.name for tier in config.tiers),
    }
    if config.cuda:
        facts["BUILD_CUDA"] = config.cuda.describe()
    text = "".join(f"#define EFFOPS_{name} {_quote(value)}\n" for name, value in facts.items())
    header = directory / "effops_build_info.h"
    if not header.exists() or header.read_text() != text:
        header.write_text(text)


def _is_current(target: Path, command: list[str]) -> bool:
    """Whether a target was made by this very command and is newer than everything that it was made of."""
    recipe, depends = target.with_suffix(".cmd"), target.with_suffix(".d")
    if not (target.exists() and recipe.exists() and depends.exists()) or recipe.read_text() != shlex.join(command):
        return False
    made = target.stat().st_mtime
    files = depends.read_text().replace("\\\n", " ").split(": ", 1)[-1].split()
    return all(Path(file).exists() and Path(file).stat().st_mtime <= made for file in files)


def _run(command: list[str], what: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        print(shlex.join(command))
        print(done.stdout + done.stderr)
        raise BuildError(
            f"{what} failed (the command and the compiler's messages stand above)",
            "see the first error; a compiler of GCC 11 or clang 14 and later is needed, "
            "or install without kernels: EFFOPS_SKIP_EXT=1 pip install .",
        )
    if done.stderr:
        print(done.stderr)


class BuildKernels(build_ext):
    """Compiles in parallel, only what changed, and fails with one readable message."""

    def build_extension(self, ext: Extension) -> None:
        config = resolve()
        print(config.describe(), flush=True)
        work = Path(self.build_temp).resolve()
        work.mkdir(parents=True, exist_ok=True)
        generated = work / "generated"
        _write_build_info(config, generated)
        with ThreadPoolExecutor(config.jobs) as pool:
            objects = list(pool.map(lambda unit: self._compile(config, unit, work), _units(config, generated)))
        target = Path(self.get_ext_fullpath(ext.name)).resolve()
        target.parent.mkdir(parents=True, exist_ok=True)
        library = config.torch.root / "lib"
        command = [*config.compiler.split(), "-shared", *map(str, objects), f"-L{library}", "-ltorch_cpu"]
        if config.cuda:
            # A torch for the CPU alone lacks it: what is built then can be loaded by a CUDA build of torch only.
            command += ["-ltorch_cuda"] if (library / "libtorch_cuda.so").exists() else []
            command += [f"-L{config.cuda.library}", "-lcudart_static", "-ldl", "-lrt", "-lpthread"]
        # Linked beside the target and renamed, so that an interrupted link leaves no half-written module.
        partial = target.with_name(target.name + ".partial")
        _run([*command, "-o", str(partial)], f"linking {target.name}")
        partial.replace(target)

    def _compile(self, config: Config, unit: Unit, work: Path) -> Path:
        target = work / f"{unit.source.parent.name}_{unit.source.stem}.o"
        host = [*config.compiler.split(), *_WARNINGS, "-fPIC"]
        if unit.source.suffix == ".cu":
            # Without the host's own warnings: they are about what nvcc makes of the source.
            host = [str(config.cuda.nvcc), f"-ccbin={config.compiler.split()[-1]}", "-Xcompiler=-fPIC"]
            host.append(f"--threads={max(1, config.jobs // 4)}")  # architectures of one file side by side
        command = [
            *host,
            "-MMD",
            "-MF",
            str(target.with_suffix(".d")),
            *unit.flags,
            "-c",
            str(unit.source),
            "-o",
            str(target),
        ]
        if not _is_current(target, command):
            print(f"compiling {unit.source.relative_to(CSRC.parent)}", flush=True)
            _run(command, f"compiling {unit.source.name}")
            target.with_suffix(".cmd").write_text(shlex.join(command))
        return target
