"""The rounding rules of compound scaling."""

from __future__ import annotations

import pytest

from effops.arch import find_arch
from effops.arch.scaling import round_channels, scale_repeats


@pytest.mark.parametrize(
    ("channels", "rounded"),
    [
        (32, 32),
        (19.2, 24),  # 16 would lose 17 %: the guard that decides B3's first stage
        (17.6, 16),
        (20, 24),  # halves go up
        (12, 16),
        (1, 8),
    ],
)
def test_channels_round_to_eights_and_never_lose_a_tenth(channels, rounded):
    assert round_channels(channels) == rounded


@pytest.mark.parametrize(
    ("repeats", "depth", "scaled"),
    [([2], 1.1, [3]), ([4], 1.8, [8]), ([1], 1.0, [1]), ([1, 1, 2], 1.2, [1, 2, 2]), ([1, 1], 1.2, [1, 2])],
)
def test_repeats_round_up_and_the_back_grows_first(repeats, depth, scaled):
    assert scale_repeats(repeats, depth) == scaled


def test_lite_scales_neither_stem_nor_head_nor_the_depth_of_the_ends():
    lite4, b4 = find_arch("efficientnet_lite4"), find_arch("efficientnet_b4")
    assert (lite4.stem.channels, lite4.head.channels) == (32, 1280)
    assert (b4.stem.channels, b4.head.channels) == (48, 1792)
    assert [len(stage) for stage in lite4.stages] == [1, 4, 4, 6, 6, 8, 1]
    assert [len(stage) for stage in b4.stages] == [2, 4, 4, 6, 6, 8, 2]


def test_lite_evaluates_at_the_official_sizes():
    """Not at those of timm's configurations, which has 300 and 380 for the last two."""
    assert [find_arch(f"efficientnet_lite{i}").resolution for i in range(5)] == [224, 240, 260, 280, 300]


def test_squeeze_excite_takes_its_width_from_the_input_or_from_the_expansion():
    b0, v3 = find_arch("efficientnet_b0"), find_arch("mobilenetv3_large_100")
    block = b0.stages[1][0]
    assert (block.in_channels, block.mid_channels, block.se.channels, block.se.gate) == (16, 96, 4, "sigmoid")
    block = v3.stages[2][0]
    assert (block.in_channels, block.mid_channels, block.se.channels, block.se.gate) == (
        24,
        72,
        24,
        "hardsigmoid",
    )


def test_only_the_first_block_of_a_stage_strides():
    for stage in find_arch("efficientnet_b7").stages:
        assert all(block.stride == 1 and block.residual for block in stage[1:])
