"""Cliffs in sweeps over batch sizes and resolutions."""

from __future__ import annotations

from dataclasses import replace

import pytest

from bench.cliffs import report, sweeps, trend
from bench.suites import scaling
from tests.bench.rows import ENVIRONMENT, row
from tests.bench.test_reports import text_of


def batches(provider: str, per_image: dict[int, float]):
    return [replace(row(provider, ms * batch, batch=batch), suite="scaling") for batch, ms in per_image.items()]


def resolutions(provider: str, per_pixel: dict[int, float]):
    made = (row(provider, cost * side**2) for side, cost in per_pixel.items())
    return [replace(r, suite="scaling", resolution=side) for r, side in zip(made, per_pixel, strict=True)]


def cliffs(rows) -> list[int]:
    (sweep,) = sweeps(rows)
    return [point.at for point in sweep.points if point.cliff]


@pytest.mark.parametrize(
    ("per_image", "at"),
    [
        ({1: 2.0, 2: 1.5, 4: 1.2, 8: 1.1, 16: 1.1}, []),
        ({1: 1.0, 2: 1.1, 4: 1.2, 8: 1.3, 16: 1.4}, []),
        # A step that stays, a spike, a step at the end.
        ({1: 1.0, 2: 1.0, 4: 1.3, 8: 1.3}, [4]),
        ({1: 1.0, 2: 1.0, 4: 1.2, 8: 1.0}, [4]),
        ({1: 1.0, 2: 1.0, 4: 1.0, 8: 1.16}, [8]),
        # Two images gain nothing, four do.
        ({1: 2.0, 2: 2.0, 4: 1.0, 8: 1.0}, [2]),
        # The first point pays for the call alone.
        ({1: 9.0, 2: 1.0, 4: 1.0}, []),
    ],
)
def test_a_cliff_is_a_point_above_the_trend(per_image, at):
    assert cliffs(batches("effops", per_image)) == at


def test_the_trend_between_two_points_is_a_line_on_logarithmic_axes():
    points = [(1, 4.0), (2, 3.0), (4, 1.0)]
    assert trend(points, 0) is None
    assert trend(points, 1) == pytest.approx(2.0)
    assert trend(points, 2) == 3.0


def test_time_counts_for_a_pixel_over_resolutions():
    assert cliffs(resolutions("effops", {128: 2.0, 192: 1.8, 256: 1.7})) == []
    assert cliffs(resolutions("effops", {128: 2.0, 192: 2.4, 256: 2.0})) == [192]


def test_the_report_names_provider_network_and_point():
    rows = batches("eager", {1: 1.0, 2: 1.0, 4: 1.0}) + batches("effops", {1: 1.0, 2: 1.3, 4: 1.0})
    rows += [replace(r, case="other") for r in resolutions("effops", {128: 1.0, 192: 1.0, 256: 1.0})]
    text = text_of(report(rows))
    assert "effops has a cliff in mobilenetv2_100 over batch at 2 (+30%)" in text
    assert "eager has no cliff over 15% in mobilenetv2_100 over batch" in text
    assert "effops has no cliff over 15% in other over resolution" in text
    assert "1300 +30%" in text and "mobilenetv2_100@224 float32: µs an image" in text


def test_two_points_show_no_trend():
    rows = batches("effops", {1: 1.0, 2: 9.0})
    assert list(sweeps(rows)) == []
    assert "needs three" in text_of(report(rows))


def test_both_sweeps_share_a_point():
    tasks = scaling.tasks(["mobilenetv3_small_050"], [1, 2, 4], [128, 224], None, ENVIRONMENT)
    assert [(t.batch, t.resolution) for t in tasks] == [(1, 128), (1, 224), (2, 224), (4, 224)]
    assert {t.key.suite for t in tasks} == {"scaling"}
    alone = scaling.tasks(["mobilenetv3_small_050"], [2, 4], [], None, ENVIRONMENT)
    assert [(t.batch, t.resolution) for t in alone] == [(2, 224), (4, 224)]
