"""The block-string language: what it reads, and how it refuses."""

from __future__ import annotations

import pytest

from effops.arch import BlockSpec, parse_block
from effops.errors import ArgumentError


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "ir_r2_k3_s2_e6_c24_se0.25",
            BlockSpec(kind="ir", repeats=2, kernel_size=3, stride=2, expansion=6, channels=24, se_ratio=0.25),
        ),
        (
            "ir_c80_e2.5_s1_k5_r4_nre_noskip",
            BlockSpec(
                kind="ir",
                repeats=4,
                kernel_size=5,
                stride=1,
                expansion=2.5,
                channels=80,
                act="relu",
                skip=False,
            ),
        ),
        (
            "er_r1_k3_s1_e4_c24_fc24_gs64_noskip",
            BlockSpec(
                kind="er",
                repeats=1,
                kernel_size=3,
                stride=1,
                expansion=4,
                channels=24,
                expanded_channels=24,
                group_size=64,
                skip=False,
            ),
        ),
        (
            "uir_r1_a5_k0_p3_s2_e4_c96",
            BlockSpec(
                kind="uir",
                repeats=1,
                kernel_size=0,
                stride=2,
                expansion=4,
                channels=96,
                start_kernel_size=5,
                end_kernel_size=3,
            ),
        ),
        (
            "mqa_r1_k3_s1_h4_d64_v2_c160",
            BlockSpec(
                kind="mqa", repeats=1, kernel_size=3, stride=1, channels=160, heads=4, key_channels=64, key_stride=2
            ),
        ),
        ("cn_r1_k3_s1_c16_skip", BlockSpec(kind="cn", repeats=1, kernel_size=3, stride=1, channels=16)),
        ("ds_r1_k3_s1_e1_c16", BlockSpec(kind="ds", repeats=1, kernel_size=3, stride=1, channels=16)),
        (
            "cn_r1_k1_s1_c960_nhs",
            BlockSpec(kind="cn", repeats=1, kernel_size=1, stride=1, channels=960, act="hardswish", skip=False),
        ),
    ],
)
def test_reads_options_in_any_order(text, expected):
    assert parse_block(text) == expected


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "unknown kind ''"),
        ("xx_r1_k3_s1_c16", "unknown kind 'xx', expected one of cn, ds, dsa, ir, er, uir, mqa"),
        ("ir_r1_k3_s1_c16", "needs e"),
        ("ds_k3", "needs c, r, s"),
        ("ir_r1_k3_s1_e6_c16_k5", "'k' is given twice"),
        ("cn_r1_k1_s1_c960_se0.25", "'se0.25' does not belong to kind 'cn'"),
        ("ds_r1_k3_s1_e6_c16", "no expansion, expected e1, got e6"),
        ("ir_r1_k3_s1_e6_c16_nxx", "unknown activation code 'xx'"),
        ("ir_r1_k3.5_s1_e6_c16", "'k' expects an integer, got '3.5'"),
        ("ir_r1_k3_s1_esix_c16", "'e' expects a number, got 'six'"),
        ("ir_r0_k3_s1_e6_c16", "'r' must be above zero"),
        ("ir_r1_k3_s1_e-6_c16", "'e' must be above zero"),
        ("ir_r1_k3_s1_einf_c16", "'e' must be above zero and finite"),
        ("ir_r1_k3_s1_enan_c16", "'e' must be above zero and finite"),
        ("ir_r1_k3_s1_e6_c16_", "cannot read option ''"),
        ("uir_r1_a-3_k3_s1_e6_c16", r"'a' must be 0 \(none\) or above, got '-3'"),
        ("er_r1_k0_s1_e6_c16", "'k' must be above zero"),
        ("mqa_r1_k3_s1_h4_c16", "needs d"),
        ("dsa_r1_k3_s1_c16_noskip", "'noskip' does not belong to kind 'dsa'"),
        ("ir_r1_k3_s1_e6_c16_q4", "cannot read option 'q4'"),
    ],
)
def test_refuses_with_the_string_and_the_option(text, complaint):
    with pytest.raises(ArgumentError, match=complaint) as caught:
        parse_block(text)
    assert repr(text) in str(caught.value)
