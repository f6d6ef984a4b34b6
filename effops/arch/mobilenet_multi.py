"""MobileNetMulti AVG, MAX and their Seg variants: Chu et al., arXiv 2008.08178, as in tensorflow/models, mobilenet.py.

The head is that of the code since 2023: a 1 x 1 convolution with batch norm and without a bias.
"""

from __future__ import annotations

from .arch import Arch, Head, Preprocessing, Stem
from .scaling import Style, resolve_stages

_MAX_START = (
    ("ir_r1_k3_s2_e3_c32",),
    ("ir_r1_k5_s2_e6_c64", "ir_r2_k3_s1_e2_c64"),
    (
        "ir_r1_k5_s2_e6_c128",
        "ir_r1_k3_s1_e4_c128",
        "ir_r2_k3_s1_e3_c128",
        "ir_r1_k3_s1_e6_c128",
        "ir_r1_k3_s1_e3_c128",
    ),
)
_AVG_START = (
    ("ir_r1_k3_s2_e3_c32", "ir_r1_k3_s1_e2_c32"),
    ("ir_r1_k5_s2_e5_c64", "ir_r1_k3_s1_e3_c64", "ir_r1_k3_s1_e2_c64", "ir_r1_k3_s1_e3_c64"),
    ("ir_r1_k5_s2_e6_c128", "ir_r3_k3_s1_e3_c128", "ir_r1_k3_s1_e6_c160", "ir_r1_k3_s1_e4_c160"),
)
MAX = (
    *_MAX_START,
    ("ir_r1_k3_s2_e6_c160", "ir_r1_k5_s1_e4_c160", "ir_r1_k3_s1_e5_c160", "ir_r1_k5_s1_e4_c160"),
    ("cn_r1_k1_s1_c960",),
)
AVG = (*_AVG_START, ("ir_r1_k3_s2_e6_c192", "ir_r3_k5_s1_e4_c192"), ("cn_r1_k1_s1_c960",))
# The last expansion is to 320 channels.
MAX_SEG = (
    *_MAX_START,
    ("ir_r1_k3_s2_e6_c160", "ir_r1_k5_s1_e2_c96", "ir_r1_k3_s1_e4_c96", "ir_r1_k5_s1_e3.33_c96"),
    ("cn_r1_k1_s1_c448",),
)
AVG_SEG = (
    *_AVG_START,
    ("ir_r1_k3_s2_e6_c192", "ir_r1_k5_s1_e2_c96", "ir_r2_k5_s1_e4_c96"),
    ("cn_r1_k1_s1_c448",),
)

VARIANTS = {
    "mobilenet_multi_max": MAX,
    "mobilenet_multi_avg": AVG,
    "mobilenet_multi_max_seg": MAX_SEG,
    "mobilenet_multi_avg_seg": AVG_SEG,
}


def rows() -> list[Arch]:
    stem = Stem(channels=32, act="relu")
    return [
        Arch(
            name=name,
            family="MobileNetMulti",
            stem=stem,
            stages=resolve_stages(strings, Style(act=stem.act), in_channels=stem.channels),
            head=Head(channels=1280, act=stem.act, pooled=True),
            drop_rate=0.2,
            preprocessing=Preprocessing(interpolation="bilinear"),
            source="arXiv 2008.08178",
        )
        for name, strings in VARIANTS.items()
    ]
