"""MobileNetV4: Qin et al., arXiv 2404.10518, in the order of the released code (tensorflow/models, mobilenet.py).

The paper's Table 13 orders the blocks of Hybrid-M differently, and its parameters and multiply-accumulates are not
those of the code.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from .arch import Arch, Head, Preprocessing, Stem
from .scaling import Style, resolve_stages

_LAST = ("cn_r1_k1_s1_c960",)

CONV_SMALL = (
    ("cn_r1_k3_s2_c32", "cn_r1_k1_s1_c32"),
    ("cn_r1_k3_s2_c96", "cn_r1_k1_s1_c64"),
    ("uir_r1_a5_k5_s2_e3_c96", "uir_r4_a0_k3_s1_e2_c96", "uir_r1_a3_k0_s1_e4_c96"),
    (
        "uir_r1_a3_k3_s2_e6_c128",
        "uir_r1_a5_k5_s1_e4_c128",
        "uir_r1_a0_k5_s1_e4_c128",
        "uir_r1_a0_k5_s1_e3_c128",
        "uir_r2_a0_k3_s1_e4_c128",
    ),
    _LAST,
)
_MEDIUM_START = (("er_r1_k3_s2_e4_c48",), ("uir_r1_a3_k5_s2_e4_c80", "uir_r1_a3_k3_s1_e2_c80"))
CONV_MEDIUM = (
    *_MEDIUM_START,
    (
        "uir_r1_a3_k5_s2_e6_c160",
        "uir_r2_a3_k3_s1_e4_c160",
        "uir_r1_a3_k5_s1_e4_c160",
        "uir_r1_a3_k3_s1_e4_c160",
        "uir_r1_a3_k0_s1_e4_c160",
        "uir_r1_a0_k0_s1_e2_c160",
        "uir_r1_a3_k0_s1_e4_c160",
    ),
    (
        "uir_r1_a5_k5_s2_e6_c256",
        "uir_r1_a5_k5_s1_e4_c256",
        "uir_r2_a3_k5_s1_e4_c256",
        "uir_r1_a0_k0_s1_e4_c256",
        "uir_r1_a3_k0_s1_e4_c256",
        "uir_r1_a3_k5_s1_e2_c256",
        "uir_r1_a5_k5_s1_e4_c256",
        "uir_r2_a0_k0_s1_e4_c256",
        "uir_r1_a5_k0_s1_e2_c256",
    ),
    _LAST,
)
# For segmentation: no blocks without a depthwise convolution, and half the channels at the end.
CONV_MEDIUM_SEG = (
    *_MEDIUM_START,
    (
        "uir_r1_a3_k5_s2_e6_c160",
        "uir_r2_a3_k3_s1_e4_c160",
        "uir_r1_a3_k5_s1_e4_c160",
        "uir_r1_a3_k3_s1_e4_c160",
        "uir_r2_a3_k0_s1_e4_c160",
    ),
    (
        "uir_r1_a5_k5_s2_e6_c256",
        "uir_r1_a5_k5_s1_e4_c128",
        "uir_r2_a3_k5_s1_e4_c128",
        "uir_r1_a3_k0_s1_e4_c128",
        "uir_r1_a3_k5_s1_e2_c128",
        "uir_r1_a5_k5_s1_e4_c128",
        "uir_r1_a5_k0_s1_e2_c128",
    ),
    ("cn_r1_k1_s1_c448",),
)
_LARGE_START = (("er_r1_k3_s2_e4_c48",), ("uir_r1_a3_k5_s2_e4_c96", "uir_r1_a3_k3_s1_e4_c96"))
_LARGE_192 = ("uir_r1_a3_k5_s2_e4_c192", "uir_r3_a3_k3_s1_e4_c192", "uir_r1_a3_k5_s1_e4_c192")
_LARGE_512 = (
    "uir_r4_a5_k5_s2_e4_c512",
    "uir_r1_a5_k0_s1_e4_c512",
    "uir_r1_a5_k3_s1_e4_c512",
    "uir_r2_a5_k0_s1_e4_c512",
    "uir_r1_a5_k3_s1_e4_c512",
    "uir_r1_a5_k5_s1_e4_c512",
)
CONV_LARGE = (
    *_LARGE_START,
    (*_LARGE_192, "uir_r5_a5_k3_s1_e4_c192", "uir_r1_a3_k0_s1_e4_c192"),
    (*_LARGE_512, "uir_r3_a5_k0_s1_e4_c512"),
    _LAST,
)


def _after_attention(attention: str, *blocks: str) -> tuple[str, ...]:
    """The attention before each of the blocks."""
    return tuple(string for block in blocks for string in (attention, block))


HYBRID_MEDIUM = (
    *_MEDIUM_START,
    (
        "uir_r1_a3_k5_s2_e6_c160",
        "uir_r1_a0_k0_s1_e2_c160",
        "uir_r1_a3_k3_s1_e4_c160",
        "uir_r1_a3_k5_s1_e4_c160",
        *_after_attention(
            "mqa_r1_k3_s1_h4_d64_v2_c160",
            "uir_r1_a3_k3_s1_e4_c160",
            "uir_r1_a3_k0_s1_e4_c160",
            "uir_r1_a3_k3_s1_e4_c160",
            "uir_r1_a3_k0_s1_e4_c160",
        ),
    ),
    (
        "uir_r1_a5_k5_s2_e6_c256",
        "uir_r1_a5_k5_s1_e4_c256",
        "uir_r2_a3_k5_s1_e4_c256",
        "uir_r1_a0_k0_s1_e2_c256",
        "uir_r1_a3_k5_s1_e2_c256",
        "uir_r1_a0_k0_s1_e2_c256",
        "uir_r1_a0_k0_s1_e4_c256",
        *_after_attention(
            "mqa_r1_k3_s1_h4_d64_c256",
            "uir_r1_a3_k0_s1_e4_c256",
            "uir_r1_a5_k5_s1_e4_c256",
            "uir_r1_a5_k0_s1_e4_c256",
            "uir_r1_a5_k0_s1_e4_c256",
        ),
    ),
    _LAST,
)
HYBRID_LARGE = (
    *_LARGE_START,
    (
        *_LARGE_192,
        "uir_r2_a5_k3_s1_e4_c192",
        *_after_attention(
            "mqa_r1_k3_s1_h8_d48_v2_c192",
            "uir_r1_a5_k3_s1_e4_c192",
            "uir_r1_a5_k3_s1_e4_c192",
            "uir_r1_a5_k3_s1_e4_c192",
            "uir_r1_a3_k0_s1_e4_c192",
        ),
    ),
    (*_LARGE_512, *_after_attention("mqa_r1_k3_s1_h8_d64_c512", *("uir_r1_a5_k0_s1_e4_c512",) * 4)),
    _LAST,
)


@dataclass(frozen=True, kw_only=True)
class _Variant:
    rows: tuple[tuple[str, ...], ...]
    resolution: int
    stem: int = 32
    act: str = "relu"
    width: float = 1.0
    layer_scale: float | None = None
    anti_alias: Literal["avg", "blur"] | None = None
    dropout: float = 0.2
    crop_pct: float = 0.95


_HYBRID_MEDIUM = {"rows": HYBRID_MEDIUM, "layer_scale": 1e-5}
_HYBRID_LARGE = {"rows": HYBRID_LARGE, "stem": 24, "act": "gelu", "layer_scale": 1e-5}
_CONV_SMALL = {"rows": CONV_SMALL, "resolution": 224, "dropout": 0.3, "crop_pct": 0.875}

# aa, blur and the hybrids of 0.75 are timm's.
VARIANTS = {
    "mobilenetv4_conv_small_035": _Variant(**_CONV_SMALL, width=0.35),
    "mobilenetv4_conv_small_050": _Variant(**_CONV_SMALL, width=0.50),
    "mobilenetv4_conv_small": _Variant(**_CONV_SMALL),
    "mobilenetv4_conv_medium": _Variant(rows=CONV_MEDIUM, resolution=256),
    "mobilenetv4_conv_medium_seg": _Variant(rows=CONV_MEDIUM_SEG, resolution=256),
    "mobilenetv4_conv_aa_medium": _Variant(rows=CONV_MEDIUM, resolution=256, anti_alias="avg"),
    "mobilenetv4_conv_blur_medium": _Variant(rows=CONV_MEDIUM, resolution=224, anti_alias="blur"),
    "mobilenetv4_conv_large": _Variant(rows=CONV_LARGE, resolution=384, stem=24),
    "mobilenetv4_conv_aa_large": _Variant(rows=CONV_LARGE, resolution=384, stem=24, anti_alias="avg"),
    "mobilenetv4_hybrid_medium": _Variant(**_HYBRID_MEDIUM, resolution=256),
    "mobilenetv4_hybrid_medium_075": _Variant(**_HYBRID_MEDIUM, resolution=224, width=0.75),
    "mobilenetv4_hybrid_large": _Variant(**_HYBRID_LARGE, resolution=384),
    "mobilenetv4_hybrid_large_075": _Variant(**_HYBRID_LARGE, resolution=256, width=0.75),
}


def mobilenet_v4(name: str, variant: _Variant) -> Arch:
    """Scale a variant's rows; a narrower network keeps the stem, and all keep the head."""
    stem = Stem(channels=variant.stem, act=variant.act)
    return Arch(
        name=name,
        family="MobileNetV4",
        stem=stem,
        stages=resolve_stages(
            variant.rows,
            Style(act=stem.act, layer_scale=variant.layer_scale, anti_alias=variant.anti_alias),
            in_channels=stem.channels,
            width=variant.width,
        ),
        head=Head(channels=1280, act=stem.act, pooled=True),
        drop_rate=variant.dropout,
        preprocessing=Preprocessing(resolution=variant.resolution, crop_pct=variant.crop_pct),
        source="arXiv 2404.10518",
    )


def rows() -> list[Arch]:
    return [mobilenet_v4(name, variant) for name, variant in VARIANTS.items()]
