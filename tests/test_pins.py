"""A tool that is pinned in two places has one version."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PIN = re.compile(r"([\w-]+)==([\w.]+)")


def _pins(text: str) -> list[tuple[str, str]]:
    return [(name.lower().replace("_", "-"), version) for name, version in PIN.findall(text)]


def test_requirements_agree() -> None:
    versions: dict[str, set[str]] = {}
    for path in sorted((ROOT / "requirements").glob("*.txt")):
        for line in path.read_text().splitlines():
            for name, version in _pins(line.partition("#")[0]):
                versions.setdefault(name, set()).add(version)
    assert versions["torch"]
    assert {name: found for name, found in versions.items() if len(found) > 1} == {}


def test_pre_commit_has_the_linters_versions() -> None:
    linters = dict(_pins((ROOT / "requirements" / "lint.txt").read_text()))
    hooks = _pins((ROOT / ".pre-commit-config.yaml").read_text())
    assert {name for name, _ in hooks} == linters.keys()
    assert all(linters[name] == version for name, version in hooks)
