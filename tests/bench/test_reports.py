"""Plots, tables, noise and comparison, from made-up rows."""

from __future__ import annotations

import dataclasses
from dataclasses import replace

import pytest
from PIL import Image
from rich.console import Console

from bench import tables
from bench.comparison import PAGE_BYTES, compare
from bench.errors import BenchError
from bench.noise import NoiseReport
from bench.plots import plot
from bench.record import read, write
from tests.bench.rows import ENVIRONMENT, op_row, row, train_row, untimed


def text_of(renderable) -> str:
    console = Console(width=200, record=True, file=None, force_terminal=False)
    with console.capture() as capture:
        console.print(renderable)
    return capture.get()


def coloured_pixels(path, colour) -> int:
    """Pixels of a figure that have about this colour."""
    image = Image.open(path).convert("RGB")
    pixels = image.get_flattened_data() if hasattr(image, "get_flattened_data") else image.getdata()
    return sum(all(abs(a - b) < 12 for a, b in zip(pixel, colour, strict=True)) for pixel in pixels)


def test_figures_are_drawn_from_the_csv_alone(tmp_path):
    path = tmp_path / "models.csv"
    write([row(name, ms, batch=b) for b in (1, 8) for name, ms in (("effops", 1.0), ("eager", 3.0))], path)
    (figure,) = plot(read(path), tmp_path / "figures")
    assert figure.name == "models_speedup.png"
    assert list(figure.parent.iterdir()) == [figure]
    assert coloured_pixels(figure, (0x00, 0x72, 0xB2)) > 1000


def test_a_bar_is_as_high_as_the_speed_up(tmp_path):
    low = plot([row("effops", 1.0), row("eager", 2.0), row("channels_last", 8.0)], tmp_path / "low")[0]
    high = plot([row("effops", 1.0), row("eager", 6.0), row("channels_last", 8.0)], tmp_path / "high")[0]
    eager = (0x00, 0x72, 0xB2)
    assert 2.0 < coloured_pixels(high, eager) / coloured_pixels(low, eager) < 4.0


def test_every_suite_and_dtype_has_its_figure(tmp_path):
    rows = [row("effops", 1.0), row("eager", 2.0), op_row("effops", 0.5), op_row("eager", 0.2)]
    rows += [replace(r, dtype="bfloat16") for r in rows[:2]]
    names = {path.name for path in plot(rows, tmp_path)}
    assert names == {
        "models_speedup.png",
        "models_speedup_bfloat16.png",
        "ops_limit_depthwise_conv_act.png",
        "ops_roofline.png",
    }


def test_figures_of_several_machines_are_called_after_them(tmp_path):
    rows = [row("effops", 1.0), row("eager", 2.0)]
    other = replace(rows[0].environment, isa="avx512_bf16")
    rows += [replace(r, environment=other) for r in rows]
    names = {path.name for path in plot([*rows, op_row("effops", 0.5), op_row("eager", 0.2)], tmp_path)}
    assert names == {
        "models_speedup_some-cpu-2-cores-avx2-2t.png",
        "models_speedup_some-cpu-2-cores-avx512-bf16-2t.png",
        "ops_limit_depthwise_conv_act.png",
        "ops_roofline.png",
    }
    # Of a file each, too.
    (one,) = plot(rows[:2], tmp_path / "files", rows)
    assert one.name == "models_speedup_some-cpu-2-cores-avx2-2t.png"


def training_rows() -> list:
    rows = [train_row("effops", 500.0, 40.0), train_row("effops_low", 550.0, 20.0), train_row("eager", 1500.0)]
    return [*rows, train_row("channels_last", 1000.0), train_row("compile", 800.0, None)]


def test_training_has_a_figure_of_times_and_one_of_memory(tmp_path):
    rows = [replace(r, dtype=dtype) for dtype in ("float32", "bfloat16") for r in training_rows()]
    step, memory, *others = plot(rows, tmp_path)
    assert (step.name, memory.name) == ("train_step.png", "train_memory.png")
    assert [path.name for path in others] == ["train_step_bfloat16.png", "train_memory_bfloat16.png"]
    low, normal = (0xEE, 0x9B, 0x66), (0xD5, 0x5E, 0x00)
    assert coloured_pixels(step, low) / coloured_pixels(step, normal) == pytest.approx(1.1, abs=0.2)
    assert coloured_pixels(memory, low) / coloured_pixels(memory, normal) == pytest.approx(0.5, abs=0.2)


def test_rows_without_times_cannot_be_drawn(tmp_path):
    with pytest.raises(BenchError, match="nothing to draw"):
        plot([untimed("effops", "wrong", "relative error"), row("eager", 1.0)], tmp_path)


def test_the_table_shows_times_ratios_and_who_was_not_timed():
    text = text_of(tables.models_table([row("effops", 2.0), row("eager", 5.0), untimed("compile", "failed", "x")]))
    assert "2.50x" in text
    assert "failed" in text
    assert "mobilenetv2_100@224" in text


def test_the_table_compares_the_arithmetic_rate_with_a_matrix_product():
    subject = dataclasses.replace(row("effops", 2.0), gflops=150.0, gemm_gflops=200.0)
    text = text_of(tables.models_table([subject, row("eager", 5.0)]))
    assert "150" in text and "75%" in text


def test_who_was_skipped_everywhere_has_no_column():
    rows = [row("effops", 2.0), row("eager", 5.0), untimed("openvino", "skipped", "x")]
    assert "openvino" not in text_of(tables.models_table(rows))
    assert "openvino" in text_of(
        tables.models_table([*rows, row("effops", 2.0, batch=8), row("openvino", 3.0, batch=8)])
    )


def test_call_times_are_in_microseconds():
    text = text_of(tables.overhead_table([row("effops", 0.025), row("eager", 0.05)]))
    assert "25" in text and "50" in text and "2.00x" in text and "0.025" not in text


def test_the_training_table_compares_with_the_better_baseline():
    text = text_of(
        tables.train_table([*training_rows(), replace(train_row("other", 1.0), status="wrong", p50_ms=None)])
    )
    effops, low, eager, channels_last, compiled, wrong = text.splitlines()[-7:-1]
    assert "efficientnet_b0@224 float32" in effops and "1.60x" in effops and "0.40x" in effops
    assert "effops_low" in low and "1.45x" in low and "0.20x" in low
    assert "0.53x" in eager and "200" in eager
    assert "0.80x" in channels_last and "1.00x" in channels_last
    assert "1.00x" in compiled
    assert "wrong" in wrong


def test_the_training_table_does_without_baselines():
    assert "40" in text_of(tables.train_table([train_row("effops", 500.0, 40.0)]))


def test_the_ops_table_shows_the_share_of_the_limit():
    text = text_of(tables.ops_table([op_row("effops", 0.63), op_row("eager", 0.2)]))
    assert "63%" in text and "bandwidth" in text


def test_exclusions_say_why_once():
    console = Console(width=200, force_terminal=False)
    rows = [row("effops", 1.0), untimed("openvino", "skipped", "openvino is not installed [x]")]
    with console.capture() as capture:
        tables.print_exclusions(console, rows)
    assert "openvino skipped (everywhere): openvino is not installed [x]" in capture.get()


def test_the_geometric_mean_of_inverse_ratios_is_one():
    assert tables.geometric_mean([4.0, 0.25]) == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("spread", "others", "noisy"),
    [(0.02, 0.01, False), (0.4, 0.01, True), (0.02, 0.5, True), (0.02, None, False)],
)
def test_noise_is_reported(spread, others, noisy):
    report = NoiseReport.of([replace(row("effops", 1.0, spread=spread), others=others)])
    assert report.noisy is noisy
    assert ("NOISY" in str(report)) is noisy


def verdict(old, new, **options) -> str:
    (comparison,) = compare(old, new, **options).comparisons
    return comparison.verdict


def test_a_slower_effops_is_a_regression():
    old = [row("effops", 1.0), row("eager", 2.0)]
    new = [row("effops", 1.2), row("eager", 2.0)]
    assert verdict(old, new) == "slower"
    assert verdict(new, old) == "faster"
    assert verdict(old, new, threshold=0.3) == "same"


def test_a_slower_machine_is_none():
    old = [row("effops", 1.0), row("eager", 2.0), row("channels_last", 1.5)]
    new = [row("effops", 1.4), row("eager", 2.8), row("channels_last", 2.1)]
    (comparison,) = compare(old, new).comparisons
    assert comparison.verdict == "same"
    assert comparison.drift == pytest.approx(1.4)
    assert comparison.change == pytest.approx(1.0)


def test_a_change_inside_the_noise_is_none():
    old = [row("effops", 1.0, spread=0.6), row("eager", 2.0)]
    new = [row("effops", 1.2, spread=0.6), row("eager", 2.0)]
    assert verdict(old, new) == "same"


def test_modes_of_effops_are_judged_and_tell_no_drift():
    old = training_rows()
    new = [replace(r, p20_ms=1099.0, p50_ms=1100.0, p80_ms=1101.0) if r.provider == "effops_low" else r for r in old]
    times = [item for item in compare(old, new).comparisons if item.quantity.name == "time"]
    assert [(item.provider, item.verdict, item.drift) for item in times] == [
        ("effops", "same", 1.0),
        ("effops_low", "slower", 1.0),
    ]


def test_a_result_that_became_wrong_is_a_regression():
    (comparison,) = compare([row("effops", 1.0)], [untimed("effops", "wrong", "relative error 1")]).comparisons
    assert comparison.verdict == "wrong" and comparison.regressed


def memory_row(provider: str, mib: float, spread: float = 0.0, later_mib: float = 100.0):
    """A row of the memory suite; p20 and p80 lie half the spread, in MiB, below and above the median."""
    low, middle, high = (int((mib + part * spread) * 2**20) for part in (-0.5, 0.0, 0.5))
    found = replace(row(provider, 1.0), suite="memory", p20_ms=None, p50_ms=None, p80_ms=None)
    peak = {"peak_bytes": middle, "peak_p20_bytes": low, "peak_p80_bytes": high}
    return replace(found, **peak, steady_bytes=int(later_mib * 2**20))


def peaks(old: float, new: float, spread: float = 0.0, **options) -> str:
    report = compare([memory_row("effops", old, spread)], [memory_row("effops", new, spread)], **options)
    peak, later = report.comparisons
    assert (peak.quantity.name, later.quantity.name, later.verdict) == ("peak memory", "later memory", "same")
    return peak.verdict


def test_more_memory_is_a_regression():
    assert peaks(100, 110) == "larger"
    assert peaks(110, 100) == "smaller"
    assert peaks(100, 104) == "same"
    assert peaks(100, 104, threshold=0.02) == "larger"
    (later,) = [
        item for item in compare([memory_row("effops", 100)], [memory_row("effops", 100, later_mib=120)]).regressed
    ]
    assert (later.quantity.name, later.verdict) == ("later memory", "larger")


def test_memory_inside_of_the_spread_or_of_a_page_is_the_same():
    assert peaks(100, 110, spread=12) == "same"
    assert peaks(100, 110, spread=4) == "larger"
    page = PAGE_BYTES / 2**20
    assert peaks(10, 10 + page) == "same"
    assert peaks(10, 10 + 1.5 * page) == "larger"


def test_memory_does_not_drift_with_the_peers():
    old = [memory_row("effops", 100), memory_row("eager", 100)]
    new = [memory_row("effops", 120), memory_row("eager", 120)]
    assert [item.verdict for item in compare(old, new).comparisons] == ["larger", "same"]


def test_files_from_before_the_spread_was_written_are_judged_by_their_medians():
    old, new = (
        [replace(memory_row("effops", mib), peak_p20_bytes=None, peak_p80_bytes=None)] for mib in (100.0, 110.0)
    )
    assert compare(old, new).comparisons[0].verdict == "larger"


def test_a_start_is_judged_as_a_time():
    old, new = ([replace(row("effops", ms), suite="coldstart", prepare_s=ms / 1e3)] for ms in (100.0, 200.0))
    assert verdict(old, new) == "slower"


def test_what_a_training_step_holds_is_judged_and_its_growth_is_not():
    old = [train_row("effops", 500.0, 40.0)]
    more = [replace(old[0], held_bytes=44 * 2**20)]
    grown = [replace(old[0], peak_bytes=10 * old[0].peak_bytes)]
    assert [(i.quantity.name, i.verdict) for i in compare(old, more).regressed] == [("held memory", "larger")]
    assert compare(old, grown).regressed == []


def test_what_the_new_run_lacks_is_told():
    old = [row("effops", 1.0), row("effops", 1.0, batch=8)]
    report = compare(old, old[:1])
    assert len(report.comparisons) == 1 and report.regressed == []
    assert report.missing == ["time of mobilenetv2_100@224 batch 8 float32 effops"]


def test_runs_that_cannot_be_compared_are_refused():
    other = [replace(row("effops", 1.0), environment=replace(ENVIRONMENT, threads=8))]
    with pytest.raises(BenchError, match="differ in threads"):
        compare([row("effops", 1.0)], other)
    with pytest.raises(BenchError, match="no problem in common"):
        compare([row("effops", 1.0)], [row("effops", 1.0, batch=8)])
