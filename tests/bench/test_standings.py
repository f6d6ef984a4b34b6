"""All goals in one table, from made-up runs of several suites and machines."""

from __future__ import annotations

from dataclasses import replace

from bench.standings import report, standings, summary
from bench.suites import scaling
from tests.bench.rows import ENVIRONMENT, row
from tests.bench.test_reports import text_of

_GIB = 2**30


def speeds(own: float, other: float, **changes):
    return [replace(row("effops", own), **changes), replace(row("onnxruntime", other), **changes)]


def fresh(suite: str, column: str, values: dict[str, float]):
    made = (replace(row(name, 1.0, case="efficientnet_b4"), suite=suite, cache="cold") for name in values)
    return [replace(one, **{column: value}) for one, value in zip(made, values.values(), strict=True)]


def sweep(per_image: list[float]):
    made = zip(scaling.BATCHES[False], per_image, strict=False)
    return [replace(row("effops", ms * batch, batch=batch), suite="scaling") for batch, ms in made]


def test_every_suite_with_goals_has_its_lines():
    rows = [
        *speeds(1.0, 1.7, dtype="bfloat16"),
        *speeds(1.0, 1.2),
        *fresh("memory", "peak_bytes", {"effops": _GIB, "effops_mapped": _GIB / 2, "onnxruntime": 1.5 * _GIB}),
        *fresh("coldstart", "prepare_s", {"effops": 1.0, "openvino": 0.25, "compile": 50.0}),
        *sweep([2.0, 1.0, 1.3, 1.3]),
    ]
    found = [(one.what, one.goal, one.found, one.reached) for one in standings(rows)]
    assert found == [
        ("speed, float32", "at least 1.3x", "1.20x", False),
        ("speed, bfloat16", "at least 1.6x", "1.70x", True),
        ("peak memory, float32", "at most 0.5x", "0.67x", False),
        ("peak memory, float32", "at most 0.5x", "0.33x", True),
        ("first result, float32", "at most 2x", "4.00x", False),
        ("first result, float32", "at most 0.1x", "0.02x", True),
        ("cliffs, float32", "at most +15%", "+30% at 4", False),
    ]


def test_a_share_of_the_product_stands_beside_the_ratio():
    rows = speeds(2.0, 2.0, case="mobilenetv1_100", gflops=70.0, gemm_gflops=100.0)
    (one,) = standings(rows)
    assert (one.goal, one.found, one.reached) == ("at least 1.05x, or 85%", "1.00x, 70%", False)
    assert (one.own, one.peer, one.other) == ("2 ms", "onnxruntime", "2 ms")
    text = text_of(summary([*rows, *speeds(1.0, 1.5), *speeds(1.0, 1.5, batch=3)]))
    assert text.count("at least") == 2 and "1 of 2 reached" in text
    assert not text_of(summary(speeds(1.0, 1.5, batch=3))).strip()


def test_peers_and_gpus_have_no_goals():
    cliffs = [replace(one, provider="openvino") for one in sweep([2.0, 1.0, 1.3, 1.3])]
    on_gpu = replace(ENVIRONMENT, device="NVIDIA H100")
    rows = [*cliffs, *(replace(one, environment=on_gpu) for one in [*speeds(1.0, 2.0), *sweep([1.0, 2.0, 3.0])])]
    assert standings(rows) == []
    assert "these runs have no case with a goal" in text_of(report([("gpu", rows)]))


def test_machines_apart_and_the_newest_run_of_each():
    other, later = replace(ENVIRONMENT, cpu="Another"), replace(ENVIRONMENT, date="2026-02-02T00:00:00+00:00")
    runs = [
        ("other", speeds(2.0, 2.0, environment=other)),
        ("first", speeds(1.0, 1.2)),
        ("again", speeds(1.0, 1.4, environment=later)),
        ("shaky", [replace(one, batch=8, p20_ms=0.2, p80_ms=9.0) for one in speeds(1.0, 1.5, environment=other)]),
    ]
    text = " ".join(text_of(report(runs)).split())
    assert "1.40x" in text and "1.20x" not in text
    assert text.count("Goals of effops on") == 2 and text.index('Some "CPU"') < text.index("Another")
    assert "1 of 1 reached" in text and "1 of 2 reached" in text
    assert "shaky: NOISY machine" in text and "again: " not in text


def test_cases_of_a_quantity_stand_together():
    both = [replace(one, dtype=dtype) for one in sweep([1.0, 1.0, 1.0]) for dtype in ("bfloat16", "float32")]
    sides = [replace(one, batch=1, resolution=side) for one in both[:2] for side in (128, 192, 256)]
    assert [one.what for one in standings([*both, *sides])] == ["cliffs, float32"] * 2 + ["cliffs, bfloat16"] * 2
