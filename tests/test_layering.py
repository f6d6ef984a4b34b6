"""The order of the house: a layer may import those below it, never those above.

cli -> {train, fuse, plan, export} -> models -> nn -> ops.functional -> {autograd, backends}
    -> register -> table -> {spec, checks, reference}
"""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

# From the top to the bottom. A name stands for a module and all that is inside it; the longest match counts.
LAYERS = (
    ("effops.cli", "effops.__main__"),
    ("effops.tape",),
    ("effops.train", "effops.fuse", "effops.plan", "effops.export"),
    ("effops.models",),
    ("effops.nn",),
    ("effops.testing",),
    (
        "effops.ops",
        "effops.ops.functional",
        "effops.ops.blocks",
        "effops.ops.training",
        "effops.ops.checks_training",
        "effops.ops.introspection",
    ),
    ("effops.ops.autograd", "effops.ops.backends", "effops.ops.chain_autograd", "effops.ops.reference_chain"),
    ("effops.ops.register",),
    ("effops.ops.table",),
    (
        "effops.ops.spec",
        "effops.ops.backward",
        "effops.ops.chain",
        "effops.ops.checks",
        "effops.ops.reference",
        "effops.ops.reference_training",
        "effops.ops.fake",
        "effops.ops.fake_training",
        "effops.ops.cost",
        "effops.ops.cost_training",
        "effops.ops.shape",
        "effops.ops.extension",
        "effops.ops.folding",
        "effops.ops.triton",
    ),
    ("effops.arch", "effops.data"),
    ("effops.errors",),
)
DEPTH = {name: depth for depth, names in enumerate(LAYERS) for name in names}

# The package's front door, which re-exports from every layer.
FRONT = "effops"


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def sources(folder: str) -> list[Path]:
    return sorted((ROOT / folder).rglob("*.py"))


def imports(path: Path) -> Iterator[str]:
    """Every module that a file imports, at its head or inside a function, by absolute name."""
    name = module_name(path)
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            source = ".".join([*base, *([node.module] if node.module else [])])
            for alias in node.names:
                inner = f"{source}.{alias.name}"
                yield inner if is_module(inner) else source


def is_module(name: str) -> bool:
    path = ROOT.joinpath(*name.split("."))
    return path.with_suffix(".py").is_file() or (path / "__init__.py").is_file()


def depth(name: str) -> int | None:
    """The layer of an effops module, counted from the top; None when it is in none."""
    while name and name not in DEPTH:
        name = name.rpartition(".")[0]
    return DEPTH.get(name)


EFFOPS = [path for path in sources("effops") if module_name(path) != FRONT]


def test_the_walk_sees_imports() -> None:
    found = set(imports(ROOT / "effops" / "cli" / "classify.py"))
    assert {"torch", "rich.table", "effops", "effops.cli.comparison", "effops.models"} <= found
    assert "effops.ops.table" in set(imports(ROOT / "effops" / "ops" / "register.py"))


@pytest.mark.parametrize("path", EFFOPS, ids=module_name)
def test_imports_go_down(path: Path) -> None:
    name = module_name(path)
    own = depth(name)
    assert own is not None, f"{name} has no place in LAYERS: give it one"
    for imported in imports(path):
        if imported.split(".")[0] != FRONT or imported in (FRONT, "effops._C"):
            continue
        below = depth(imported)
        assert below is not None, f"{name} imports {imported}, which has no place in LAYERS"
        assert below >= own, f"{name} imports {imported}, which is in a layer above it"


@pytest.mark.parametrize("path", EFFOPS, ids=module_name)
def test_only_the_command_line_takes_the_front_door(path: Path) -> None:
    """Inside the library the front door would be an import cycle."""
    if not module_name(path).startswith("effops.cli"):
        assert FRONT not in set(imports(path))


@pytest.mark.parametrize("path", sources("effops/arch"), ids=module_name)
def test_arch_needs_only_the_standard_library(path: Path) -> None:
    for imported in imports(path):
        own = imported.startswith("effops.arch") or imported == "effops.errors"
        assert own or imported.split(".")[0] in sys.stdlib_module_names, imported


@pytest.mark.parametrize("folder", ["effops", "bench", "buildtools", "examples", "scripts"])
def test_nothing_imports_tests_or_bench(folder: str) -> None:
    for path in sources(folder):
        for imported in imports(path):
            top = imported.split(".")[0]
            assert top != "tests", f"{path.name} imports {imported}"
            assert top != "bench" or folder == "bench", f"{path.name} imports {imported}"


def _modules_after(statement: str) -> set[str]:
    command = [sys.executable, "-c", f"import sys\n{statement}\nprint(*sys.modules, sep='\\n')"]
    return set(subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT).stdout.split())


def test_import_effops_is_light() -> None:
    """It loads neither the command line's packages nor a compiler beyond what torch itself has loaded."""
    added = _modules_after("import effops") - _modules_after("import torch")
    heavy = {"typer", "rich", "PIL", "numpy", "torchvision", "timm", "triton", "torch.utils.cpp_extension"}
    assert "effops.ops.table" in added
    assert not added & heavy
    assert not any(name.startswith(("torch._inductor", "torch._dynamo")) for name in added)
