"""What the documents claim about the tests is there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
ROWS = [line for line in (ROOT / "docs" / "checklist.md").read_text().splitlines() if re.match(r"\| \d", line)]


def test_the_checklist_is_whole() -> None:
    assert [int(row.split("|")[1]) for row in ROWS] == list(range(1, 21))


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.split("|")[1].strip())
def test_its_tests_exist(row: str) -> None:
    named = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", row)
    assert named, "no test shows this point on a CPU"
    for file, function in named:
        assert re.search(rf"^def {function}\(", (ROOT / file).read_text(), re.M), f"{file} has no {function}"
