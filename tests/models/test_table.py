"""docs/models.md tells the truth about the models of today."""

from __future__ import annotations

import importlib.util
import re

from effops.models import list_models
from tests.models.parity import RESULTS, read_results

_ROOT = RESULTS.parents[1]


def _script():
    spec = importlib.util.spec_from_file_location("model_table", _ROOT / "scripts" / "model_table.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_table_is_current():
    committed = (_ROOT / "docs" / "models.md").read_text(encoding="utf-8")
    assert committed == _script().text(), "run make model-table"
    assert set(re.findall(r"^\| `(\S+)` ", committed, flags=re.MULTILINE)) == set(list_models())


def test_what_was_measured_holds():
    results = read_results()
    assert set(results) <= set(list_models()), "docs/parity.csv has models that are gone"
    assert len(results) > 100
    for found in results.values():
        found.check()
