"""Counts equal the published and the independently counted ones to the unit."""

from __future__ import annotations

import csv
from itertools import pairwise
from pathlib import Path

import pytest

from effops.arch import ARCHS, find_arch, parts, total
from effops.errors import ArgumentError


def _facts() -> list[dict[str, str]]:
    lines = Path(__file__).with_name("variants.csv").read_text().splitlines()
    return list(csv.DictReader(line for line in lines if not line.startswith("#")))


@pytest.mark.parametrize("fact", _facts(), ids=lambda fact: fact["variant"])
def test_counts_equal_the_published_ones(fact):
    arch = find_arch(fact["variant"])
    counts = total(parts(arch))
    assert arch.resolution == int(fact["resolution"])
    for field in ("params", "params_with_bn_stats", "macs", "activations", "dw_macs"):
        assert getattr(counts, field) == int(fact[field]), field


@pytest.mark.parametrize("name", [name for name in ARCHS if name.startswith("tf_")])
def test_padding_does_not_change_the_counts(name):
    """At the published resolutions the two paddings give maps of the same size."""
    assert total(parts(find_arch(name))) == total(parts(find_arch(name.removeprefix("tf_"))))


def test_resolution_changes_only_what_depends_on_pixels():
    arch = find_arch("efficientnet_b0")
    small, large = total(parts(arch, resolution=112)), total(parts(arch, resolution=224))
    assert (small.params, small.bn_stats) == (large.params, large.bn_stats)
    assert small.macs < large.macs / 3 and small.activations < large.activations / 3


def test_classifier_and_input_channels_count():
    arch = find_arch("mobilenetv2_100")
    without, with_ten = total(parts(arch, num_classes=0)), total(parts(arch, num_classes=10))
    assert with_ten.params - without.params == 1281 * 10
    assert with_ten.macs - without.macs == 1280 * 10
    grey = total(parts(arch, in_chans=1))
    assert total(parts(arch)).params - grey.params == 2 * 32 * 9


def test_parts_follow_each_other():
    """Each part takes what the one before it gives."""
    found = parts(find_arch("mobilenetv3_large_100"))
    assert [part.name for part in found] == ["stem", *(f"blocks.{i}" for i in range(7)), "head"]
    for before, after in pairwise(found):
        assert (before.out_channels, before.out_size) == (after.in_channels, after.in_size)
    assert found[-2].out_size == 7


@pytest.mark.parametrize(
    ("argument", "value"), [("resolution", 0), ("resolution", -224), ("num_classes", -1), ("in_chans", 0)]
)
def test_impossible_arguments_are_refused_by_name(argument, value):
    with pytest.raises(ArgumentError, match=f"{argument}.*{value}"):
        parts(find_arch("efficientnet_b0"), **{argument: value})
