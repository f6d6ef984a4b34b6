"""Rooflines, curves and the other figures of the bench, from made-up rows."""

from __future__ import annotations

from dataclasses import replace

import pytest

from bench.appearance import PEER_COLOURS, colours, kind_place, kind_title, title
from bench.errors import BenchError
from bench.plots import plot
from bench.roofline import Roofs, intensity, points
from bench.scaling import curves, ms_per_image
from tests.bench.rows import op_row, row, untimed
from tests.bench.test_report_page import NAMES, scaling_rows, suite_rows
from tests.bench.test_reports import coloured_pixels


def rgb(colour: str) -> tuple[int, ...]:
    return tuple(int(colour[place : place + 2], 16) for place in (1, 3, 5))


@pytest.mark.parametrize(
    ("suite", "names"),
    [
        ("scaling", ["scaling_batch.png", "scaling_resolution.png"]),
        ("split", ["split.png"]),
        ("coldstart", ["coldstart.png"]),
        ("memory", ["memory.png"]),
        ("kernels", ["kernels_roofline.png"]),
        ("overhead", []),
    ],
)
def test_every_suite_has_its_figures(tmp_path, suite, names):
    rows = suite_rows()[suite]
    paths = plot(rows, tmp_path)
    assert [path.name for path in paths] == names
    assert all(
        coloured_pixels(path, rgb("#D55E00")) + coloured_pixels(path, rgb(PEER_COLOURS[0])) > 50 for path in paths
    )


def test_figures_need_something_to_draw(tmp_path):
    for suite in ("scaling", "split", "coldstart", "memory", "kernels"):
        with pytest.raises(BenchError, match=r"nothing to draw|no roofline"):
            plot([replace(untimed("effops", "failed", "x"), suite=suite, prepare_s=None)], tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_the_roofs_meet_at_the_ridge():
    rows = [replace(op_row("effops", 0.5), copy_gbps=20.0, gemm_gflops=200.0)]
    roofs = Roofs.of(rows)
    assert roofs.ridge == 5.0
    assert roofs.at(1.0) == 40.0
    assert roofs.at(roofs.ridge) == roofs.at(100.0) == 200.0


def test_the_slanted_roof_is_that_of_large_copies():
    rows = [
        replace(op_row("effops", 0.5), bytes=size, copy_gbps=gbps) for size, gbps in ((1, 90.0), (2, 80.0), (9, 20.0))
    ]
    assert Roofs.of([*rows, replace(rows[-1], bytes=8, copy_gbps=22.0)]).copy_gbps == 21.0


def test_a_point_has_its_fastest_peer():
    rows = [
        op_row("effops", 0.5),
        *(replace(op_row(name, 0.2), gflops=g) for name, g in (("eager", 1.0), ("other", 2.0))),
    ]
    ((subject, peer),) = points([*rows, replace(op_row("effops", 0.5, case="without bytes"), bytes=None)])
    assert (subject.provider, peer.provider) == ("effops", "other")
    assert intensity(subject) == 0.5


def test_curves_follow_one_axis_at_a_time():
    batch, side = curves(scaling_rows())
    assert (batch.axis, batch.fixed, batch.title) == ("batch", 224, "mobilenetv2_100, @224")
    assert [place for place, _ in batch.of["effops"]] == [1, 2, 4]
    assert [ms_per_image(found) for _, found in batch.of["effops"]] == [1.0, 1.0, 1.0]
    assert (side.axis, side.fixed) == ("resolution", 1)
    assert [place for place, _ in side.of["eager"]] == [128, 224, 256]
    assert curves([replace(row(name, ms), suite="scaling") for name, ms in NAMES]) == []


def test_effops_has_a_colour_of_its_own_and_unknown_names_stay():
    found = colours(["effops", "effops_triton", "eager", "something"])
    assert found["effops"] == found["effops_triton"] == "#D55E00"
    assert len({found["effops"], found["eager"], found["something"]}) == 3
    assert title("something") == "something" and kind_title("something") == "something"
    assert kind_place("mbconv") < kind_place("something") <= kind_place("other") < kind_place("outside")
