"""The HTML report, from made-up rows: whole, safe, the same every time, and readable without its pictures."""

from __future__ import annotations

import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest

from bench import cli
from bench.errors import BenchError
from bench.record import write
from bench.report import render
from tests.bench.rows import ENVIRONMENT, op_row, row, train_row, untimed

VOID = {"meta", "wbr"}


class Page(HTMLParser):
    """The elements of a page, their attributes, and its text."""

    def __init__(self, html: str):
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self._open: list[str] = []
        self.feed(html)
        self.close()
        assert self._open == [], f"not closed: {self._open}"

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self._open and self._open.pop() == tag, f"</{tag}> closes another element"

    def handle_data(self, data):
        self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join("".join(self.words).split())

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]

    def charts(self) -> list[dict[str, str | None]]:
        return [attributes for attributes in self.all("svg") if attributes.get("class") == "chart"]


def model_rows() -> list:
    times = {"effops": 1.0, "eager": 3.0, "channels_last": 2.0, "onnxruntime": 0.8}
    rows = [row(name, ms, batch=batch) for batch in (1, 8) for name, ms in times.items()]
    return [*rows, untimed("openvino", "skipped", "openvino is not installed")]


def scaling_rows() -> list:
    at_batches = [replace(row(name, ms * b, batch=b), suite="scaling") for b in (1, 2, 4) for name, ms in NAMES]
    at_sizes = [
        replace(row(name, ms * (side / 128) ** 2), suite="scaling", resolution=side)
        for side in (128, 256)
        for name, ms in NAMES
    ]
    return at_batches + at_sizes


NAMES = (("effops", 1.0), ("eager", 3.0))


def split_rows() -> list:
    whole = replace(row("effops", 4.0, case="mobilenetv2_100 whole"), suite="split", models="mobilenetv2_100")
    rates = {"macs": 10**6, "bytes": 10**6, "gbps": 1.0, "gflops": 2.0, "gemm_gflops": 100.0, "copy_gbps": 10.0}
    part = replace(row("effops", 3.0, case="mobilenetv2_100 mbconv"), suite="split", models="mobilenetv2_100")
    rest = replace(part, case="mobilenetv2_100 outside", op="outside", p20_ms=0.9, p50_ms=1.0, p80_ms=1.1)
    return [whole, replace(part, op="mbconv", **rates), rest]


def suite_rows() -> dict[str, list]:
    peaks = [replace(row(name, ms), suite="memory", peak_bytes=int(ms * 2**20)) for name, ms in NAMES]
    return {
        "models": model_rows(),
        "train": [train_row("effops", 500.0, 40.0), train_row("eager", 1500.0), train_row("compile", 800.0, None)],
        "scaling": scaling_rows(),
        "split": split_rows(),
        "ops": [op_row("effops", 0.6), replace(op_row("eager", 0.2), gflops=2.0)],
        "kernels": [replace(op_row("effops", 0.6), suite="kernels", op="mbconv")],
        "coldstart": [replace(row(name, ms), suite="coldstart", prepare_s=ms) for name, ms in NAMES],
        "memory": [replace(found, p20_ms=None, p50_ms=None, p80_ms=None) for found in peaks],
        "overhead": [replace(row(name, ms), suite="overhead") for name, ms in NAMES],
    }


def test_cliffs_are_told_by_provider_and_place():
    spike = [replace(r, p50_ms=2 * r.p50_ms) if (r.batch, r.provider) == (2, "eager") else r for r in scaling_rows()]
    page = Page(render([("scaling", spike)]))
    assert "+100%at 2, a cliff" in page.text
    assert "a cliff is more than 15%" in page.text
    calm = Page(render([("scaling", scaling_rows())])).text
    assert "at 2, a cliff" not in calm and "+0%at" in calm
    # Two points show no trend.
    few = [r for r in scaling_rows() if r.resolution != 224]
    assert "above the trend" not in Page(render([("scaling", few)])).text


def test_starts_are_shown_with_their_parts_ratios_and_goals():
    rows = [
        replace(row(name, 1e3 * seconds), suite="coldstart", prepare_s=seconds, first_call_s=seconds / 4, **parts)
        for name, seconds, parts in (
            ("effops", 0.08, {"import_s": 1.25}),
            ("openvino", 0.2, {"import_s": 0.125, "export_s": 5.5}),
            ("compile", 0.4, {}),
        )
    ]
    text = Page(render([("coldstart", rows)])).text
    for words in ("80 ms", "60 ms", "20 ms", "1.25 s", "5.5 s", "2.50x", "at most 2x", "0.40xreached"):
        assert words in text, words
    assert "0.2 sOpenVINO" in text and "at most 0.1x" in text and "0.20xmissed" in text and "1 of 2 reached" in text
    # Files from before the parts were written.
    old = [replace(found, first_call_s=None, import_s=None, export_s=None) for found in rows]
    assert "80 ms" in Page(render([("coldstart", old)])).text


def test_memory_is_shown_at_the_peak_and_later_with_its_goal():
    mib = 2**20
    rows = [
        replace(row(name, 1.0), suite="memory", p50_ms=None, peak_bytes=peak * mib, steady_bytes=later * mib)
        for name, peak, later in (("effops", 40, 30), ("onnxruntime", 100, 90))
    ]
    rows[1] = replace(rows[1], peak_p20_bytes=98 * mib, peak_p80_bytes=103 * mib)
    text = Page(render([("memory", rows)])).text
    for words in ("100 MiB98-103", "90 MiB", "2.50x", "3.00x", "at most 0.5x", "100 MiBONNX Runtime", "0.40xreached"):
        assert words in text, words


def test_who_was_disqualified_has_a_line_without_figures():
    rows = [*suite_rows()["coldstart"], replace(untimed("compile", "failed", "no compiler"), suite="coldstart")]
    assert "torch.compilefailed-----" in Page(render([("coldstart", rows)])).text.replace(" ", "")


def everything() -> list:
    return [found for rows in suite_rows().values() for found in rows]


def test_every_suite_has_a_chapter_with_a_chart_or_a_table():
    page = Page(render([("all", everything())]))
    anchors = {attributes["id"] for attributes in page.all("section")}
    assert {f"m0-{suite}" for suite in suite_rows()} <= anchors
    assert len(page.charts()) >= 10
    for words in ("3.00x", "0.80x behind", "whole block (MBConv)", "75.0%", "MiB", "openvino is not installed"):
        assert words in page.text, words


@pytest.mark.parametrize("suite", list(suite_rows()))
def test_a_suite_alone_is_a_whole_page(suite):
    page = Page(render([(suite, suite_rows()[suite])]))
    targets = {attributes["href"] for attributes in page.all("a")}
    ids = {f"#{attributes['id']}" for _, attributes in page.elements if "id" in attributes}
    assert f"#m0-{suite}" in targets
    assert targets <= ids
    assert f"python -m bench {suite}" in page.text


def test_every_chart_says_in_words_what_it_shows():
    charts = Page(render([("all", everything())])).charts()
    assert all(chart["role"] == "img" and len(chart["aria-label"]) > 40 for chart in charts)
    assert len({chart["aria-label"] for chart in charts}) == len(charts)
    assert any("ONNX Runtime 0.80x behind" in chart["aria-label"] for chart in charts)


def test_tables_scroll_in_boxes_that_the_keyboard_reaches():
    page = Page(render([("all", everything())]))
    boxes = [attributes for attributes in page.all("div") if attributes.get("class") == "scroll"]
    assert len(boxes) == len(page.all("table")) > 5
    assert all(box["tabindex"] == "0" and box["aria-label"] for box in boxes)


def test_nothing_is_loaded_from_elsewhere():
    html = render([("all", everything())])
    assert not re.search(r"https?:|//\w|@import|@font-face|<(script|link|img|iframe|object)\b|\bsrc=", html)
    assert set(re.findall(r"url\(([^)]*)\)", html)) == {"#hatch"}


def test_names_and_reasons_are_escaped():
    evil = '<script>alert("x")</script>&\''
    rows = [
        replace(row("effops", 1.0, case=evil), network=evil),
        replace(row(evil, 2.0, case=evil)),
        replace(untimed("compile", "failed", evil), case=evil),
    ]
    rows = [replace(found, environment=replace(ENVIRONMENT, cpu=evil)) for found in rows]
    others = [replace(found, suite=suite) for found in rows for suite in ("scaling", "coldstart", "unknown")]
    html = render([(evil, [*rows, *others])])
    assert "<script" not in html
    assert evil in Page(html).text


def test_the_same_rows_give_the_same_bytes():
    assert render([("all", everything())]) == render([("all", everything())])


def test_light_and_dark_define_the_same_colours():
    html = render([("all", model_rows())])
    light, dark = re.findall(r":root \{(.*?)\}", html, re.DOTALL)
    names = [set(re.findall(r"(--[a-z0-9]+):", theme)) for theme in (light, dark)]
    assert names[1] <= names[0]
    used = set(re.findall(r"var\((--[a-z0-9]+)\)", html)) - {"--c"}
    assert used <= names[0]


def _luminance(colour: str) -> float:
    channels = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    linear = [value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4 for value in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def _contrast(one: str, other: str) -> float:
    high, low = sorted((_luminance(one), _luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("theme", [0, 1], ids=["light", "dark"])
def test_colours_can_be_told_from_their_ground(theme):
    """WCAG 2.1: 4.5 for text, 3 for the marks of charts."""
    blocks = re.findall(r":root \{(.*?)\}", render([("all", model_rows())]), re.DOTALL)
    colours = dict(
        pair for block in blocks[: theme + 1] for pair in re.findall(r"(--[a-z0-9]+): (#[0-9a-f]{6})", block)
    )
    for text in ("--ink", "--quiet", "--good", "--bad", "--link"):
        assert _contrast(colours[text], colours["--ground"]) >= 4.5, text
    for text in ("--ink", "--quiet", "--own"):
        assert _contrast(colours[text], colours["--raised"]) >= 4.5, text
    for mark in ("--own", "--own2", "--peer", *(f"--p{place}" for place in range(8))):
        assert _contrast(colours[mark], colours["--ground"]) >= 3, mark
    for piece in (f"--k{place}" for place in range(9)):
        assert _contrast(colours["--letter"], colours[piece]) >= 4.5, piece


def test_a_problem_comes_whole_from_its_newest_run():
    later = replace(ENVIRONMENT, date="2026-02-02T00:00:00+00:00")
    old = [row("effops", 1.0), row("eager", 9.0), row("effops", 1.0, batch=8), row("eager", 5.0, batch=8)]
    new = [replace(found, environment=later) for found in (row("effops", 2.0), row("channels_last", 6.0))]
    for runs in ([("old", old), ("new", new)], [("new", new), ("old", old)]):
        text = Page(render(runs)).text
        assert "3.00x" in text and "5.00x" in text
        assert "9.00x" not in text and "4.50x" not in text
        assert "2 older rows" in text


def test_machines_are_kept_apart():
    other = replace(ENVIRONMENT, cpu="Another processor", threads=8)
    newer = replace(ENVIRONMENT, isa="avx512")
    there, beside = ([replace(found, environment=where) for found in model_rows()] for where in (other, newer))
    page = Page(render([("here", model_rows()), ("there", there), ("beside", beside)]))
    anchors = {attributes["id"] for attributes in page.all("section")}
    assert {"m0-models", "m1-models", "m2-models"} <= anchors
    assert "Another processor, avx2, 8 threads" in page.text
    assert f"{ENVIRONMENT.cpu}, avx512, 2 threads" in page.text


def test_a_noisy_run_is_told_before_the_first_number():
    noisy = [replace(found, others=0.5) for found in model_rows()]
    text = Page(render([("quiet one", suite_rows()["train"]), ("loud one", noisy)])).text
    assert "noisy in loud one: take no ratios" in text
    assert text.index("noisy in loud one") < text.index("2.00x")
    assert "take no ratios" not in Page(render([("quiet one", model_rows())])).text


def test_headlines_compare_with_the_fastest_of_a_family():
    text = Page(render([("models", model_rows())])).text
    assert "over eager PyTorch, eval float32 2.00x batch 1 2.00x batch 8" in text
    assert "over inference engines, eval float32 0.80x batch 1" in text
    step = Page(render([("train", suite_rows()["train"])])).text
    assert "training step, float32 1.60x batch 16 over the fastest peer" in step


def test_the_commands_name_the_cases(tmp_path):
    text = Page(render([("ops", suite_rows()["ops"]), ("train", suite_rows()["train"])])).text
    assert "python -m bench ops --ops depthwise_conv_act" in text
    assert "python -m bench train --models efficientnet_b0 --batch 16 --dtypes fp32 --threads 2" in text
    assert "commit abc1234 with changes that were not committed" in text


def test_no_rows_are_no_page():
    with pytest.raises(BenchError, match="no rows to report on"):
        render([("empty", [])])


def test_the_command_writes_the_page(tmp_path, capsys):
    path, output = tmp_path / "models.csv", tmp_path / "pages" / "ours.html"
    write(model_rows(), path)
    with pytest.raises(SystemExit) as stop:
        cli.main(["report", str(path), "--output", str(output)])
    assert not stop.value.code
    assert "0.80x" in Page(output.read_text(encoding="utf-8")).text
    with pytest.raises(SystemExit) as stop:
        cli.main(["report", str(tmp_path / "none.csv"), "--output", str(output)])
    assert stop.value.code == 2
    with pytest.raises(SystemExit) as stop:
        cli.main(["report", str(path), "--output", str(tmp_path)])
    assert stop.value.code == 2
    assert "must be an HTML file" in " ".join(capsys.readouterr().err.split())
