"""Writes docs/models.md: every model with its counts, and what comparing it with its peer gave.

Usage: python scripts/model_table.py  (from anywhere)

The comparisons are those of docs/parity.csv, which ``python -m tests.models.parity`` writes.
"""

from __future__ import annotations

import csv
import sys
from itertools import groupby
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from effops.models import ModelInfo, list_models, model_info  # noqa: E402

TABLE = ROOT / "docs" / "models.md"
PARITY = ROOT / "docs" / "parity.csv"

HEAD = """\
# Models

Made by `make model-table`; do not edit. Parameters and multiply-accumulates (MACs) are counted exactly, at the
resolution of the model's evaluation and for 1000 classes (an encoder has none), without the running statistics of batch
norm.

Every model is compared with an independent one of the same name and the same weights: timm's, torchvision's where timm
has none, and plain torch where neither has. Weights and batch norm statistics are random. *float32* is the largest
difference of the logits over the largest logit, effops' kernels against the peer; *layouts* is the same between the
peer's own channels_last and contiguous runs, which is what rounding alone does. *float64* is that of the reference,
*gradients* that of a training step in float64: logits, every gradient and running statistic, the worst of them. An
empty field was not measured.
"""


def rows() -> list[str]:
    """The lines of the tables, family by family."""
    parity = read_parity()
    infos = sorted((model_info(name) for name in list_models()), key=lambda info: (info.family, info.params, info.name))
    lines = []
    for family, members in groupby(infos, key=lambda info: info.family):
        lines += ["", f"## {family}", "", _line(COLUMNS), _line(["---", *["---:"] * 3, "---", *["---:"] * 4])]
        lines += [_line(_fields(info, parity.get(info.name, {}))) for info in members]
    return lines


COLUMNS = ["model", "parameters", "MACs (M)", "resolution", "peer", "float32", "layouts", "float64", "gradients"]


def _fields(info: ModelInfo, found: dict[str, str]) -> list[str]:
    measured = [found.get(key, "") for key in ("peer", "single", "layouts", "exact", "gradients")]
    return [f"`{info.name}`", f"{info.params:,}", f"{info.macs / 1e6:,.1f}", str(info.resolution), *measured]


def _line(fields: list[str]) -> str:
    return f"| {' | '.join(fields)} |"


def read_parity() -> dict[str, dict[str, str]]:
    """Rows of docs/parity.csv by the model's name."""
    with PARITY.open(encoding="utf-8") as file:
        return {row["name"]: row for row in csv.DictReader(file)}


def summary() -> str:
    """How many models were compared, and the worst of them."""
    parity = read_parity()
    compared = [row for name, row in parity.items() if name in set(list_models())]
    worst = max(compared, key=lambda row: float(row["single"]))
    exact = max(compared, key=lambda row: float(row["exact"]))
    trained = [row for row in compared if row["gradients"]]
    steepest = max(trained, key=lambda row: float(row["gradients"]))
    layouts = f"{worst['layouts']} between the peer's layouts"
    return (
        f"\n{len(list_models())} models, {len(compared)} of them compared.\n"
        f"Largest error in float32: {worst['single']} (`{worst['name']}`, {layouts});\n"
        f"in float64: {exact['exact']} (`{exact['name']}`);\n"
        f"of a training step in float64, over {len(trained)} models: {steepest['gradients']} (`{steepest['name']}`)."
    )


def text() -> str:
    """The whole file."""
    return "\n".join([HEAD + summary(), *rows()]) + "\n"


if __name__ == "__main__":
    TABLE.write_text(text(), encoding="utf-8")
    print(f"wrote {TABLE.relative_to(ROOT)}")
