"""EfficientNetV2: Tan and Le, arXiv 2104.00298, and google/automl's efficientnetv2; rw_t, rw_s and rw_m are timm's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

from .arch import (
    BN_EPS_TF,
    INCEPTION_MEAN,
    INCEPTION_STD,
    Arch,
    Head,
    Preprocessing,
    Stem,
    tensorflow_twin,
    torchvision_twin,
)
from .efficientnet import crop_pct
from .scaling import SqueezeRule, Style, resolve_stages, round_channels

BASE = (
    ("cn_r1_k3_s1_c16_skip",),
    ("er_r2_k3_s2_e4_c32",),
    ("er_r2_k3_s2_e4_c48",),
    ("ir_r3_k3_s2_e4_c96_se0.25",),
    ("ir_r5_k3_s1_e6_c112_se0.25",),
    ("ir_r8_k3_s2_e6_c192_se0.25",),
)
SMALL = (
    ("cn_r2_k3_s1_c24_skip",),
    ("er_r4_k3_s2_e4_c48",),
    ("er_r4_k3_s2_e4_c64",),
    ("ir_r6_k3_s2_e4_c128_se0.25",),
    ("ir_r9_k3_s1_e6_c160_se0.25",),
    ("ir_r15_k3_s2_e6_c256_se0.25",),
)
# timm's, from the paper's table alone: before the authors' code was out.
SMALL_RW = (("er_r2_k3_s1_e1_c24",), *SMALL[1:-1], ("ir_r15_k3_s2_e6_c272_se0.25",))
MEDIUM = (
    ("cn_r3_k3_s1_c24_skip",),
    ("er_r5_k3_s2_e4_c48",),
    ("er_r5_k3_s2_e4_c80",),
    ("ir_r7_k3_s2_e4_c160_se0.25",),
    ("ir_r14_k3_s1_e6_c176_se0.25",),
    ("ir_r18_k3_s2_e6_c304_se0.25",),
    ("ir_r5_k3_s1_e6_c512_se0.25",),
)
LARGE = (
    ("cn_r4_k3_s1_c32_skip",),
    ("er_r7_k3_s2_e4_c64",),
    ("er_r7_k3_s2_e4_c96",),
    ("ir_r10_k3_s2_e4_c192_se0.25",),
    ("ir_r19_k3_s1_e6_c224_se0.25",),
    ("ir_r25_k3_s2_e6_c384_se0.25",),
    ("ir_r7_k3_s1_e6_c640_se0.25",),
)
EXTRA_LARGE = (
    ("cn_r4_k3_s1_c32_skip",),
    ("er_r8_k3_s2_e4_c64",),
    ("er_r8_k3_s2_e4_c96",),
    ("ir_r16_k3_s2_e4_c192_se0.25",),
    ("ir_r24_k3_s1_e6_c256_se0.25",),
    ("ir_r32_k3_s2_e6_c512_se0.25",),
    ("ir_r8_k3_s1_e6_c640_se0.25",),
)


@dataclass(frozen=True, kw_only=True)
class _Variant:
    rows: tuple[tuple[str, ...], ...]
    resolution: int
    dropout: float
    stem: int = 24
    features: int = 1280
    width: float = 1.0
    depth: float | Sequence[float] = 1.0
    guard: bool = True


# The resolutions are those of evaluation. google/automl's rounding of B0-B3 has no guard against losing a tenth.
VARIANTS = {
    "efficientnetv2_b0": _Variant(rows=BASE, stem=32, resolution=224, dropout=0.2, guard=False),
    "efficientnetv2_b1": _Variant(rows=BASE, stem=32, resolution=240, dropout=0.2, depth=1.1, guard=False),
    "efficientnetv2_b2": _Variant(rows=BASE, stem=32, resolution=260, dropout=0.3, width=1.1, depth=1.2, guard=False),
    "efficientnetv2_b3": _Variant(rows=BASE, stem=32, resolution=300, dropout=0.3, width=1.2, depth=1.4, guard=False),
    "efficientnetv2_s": _Variant(rows=SMALL, resolution=384, dropout=0.2),
    "efficientnetv2_m": _Variant(rows=MEDIUM, resolution=480, dropout=0.3),
    "efficientnetv2_l": _Variant(rows=LARGE, stem=32, resolution=480, dropout=0.4),
    "efficientnetv2_xl": _Variant(rows=EXTRA_LARGE, stem=32, resolution=512, dropout=0.4),
    "efficientnetv2_rw_t": _Variant(rows=SMALL, resolution=288, dropout=0.2, width=0.8, depth=0.9),
    "efficientnetv2_rw_s": _Variant(rows=SMALL_RW, resolution=384, dropout=0.2, features=1792),
    "efficientnetv2_rw_m": _Variant(
        rows=SMALL_RW, resolution=416, dropout=0.3, features=1792, width=1.2, depth=(1.2, 1.2, 1.2, 1.2, 1.6, 1.6)
    ),
}
_WITHOUT_TENSORFLOW_TWIN = ("efficientnetv2_rw_t", "efficientnetv2_rw_s", "efficientnetv2_rw_m")
_CROPPED = ("efficientnetv2_b0", "efficientnetv2_b1", "efficientnetv2_b2", "efficientnetv2_b3")

_TORCHVISION = {
    "efficientnet_v2_s": ("efficientnetv2_s", Preprocessing(resolution=384, crop_pct=1.0, interpolation="bilinear")),
    "efficientnet_v2_m": ("efficientnetv2_m", Preprocessing(resolution=480, crop_pct=1.0, interpolation="bilinear")),
    "efficientnet_v2_l": (
        "efficientnetv2_l",
        Preprocessing(resolution=480, crop_pct=1.0, mean=INCEPTION_MEAN, std=INCEPTION_STD),
    ),
}


def efficientnet_v2(name: str, variant: _Variant) -> Arch:
    """Scale a variant's rows."""
    rounding = partial(round_channels, guard=variant.guard)
    stem = Stem(channels=rounding(variant.stem * variant.width), act="silu")
    return Arch(
        name=name,
        family="EfficientNetV2",
        stem=stem,
        stages=resolve_stages(
            variant.rows,
            Style(act=stem.act, squeeze=SqueezeRule(base="input", gate="sigmoid"), round=rounding),
            in_channels=stem.channels,
            width=variant.width,
            depth=variant.depth,
        ),
        head=Head(channels=rounding(variant.features * variant.width), act=stem.act),
        drop_rate=variant.dropout,
        preprocessing=Preprocessing(
            resolution=variant.resolution, crop_pct=crop_pct(variant.resolution) if name in _CROPPED else 1.0
        ),
        source="timm" if "_rw_" in name else "arXiv 2104.00298",
    )


def _tensorflow_twin(arch: Arch) -> Arch:
    """TensorFlow's S to XL take pixels in [-1, 1]."""
    twin = tensorflow_twin(arch)
    if arch.name in _CROPPED:
        return twin
    return replace(twin, preprocessing=replace(twin.preprocessing, mean=INCEPTION_MEAN, std=INCEPTION_STD))


def rows() -> list[Arch]:
    archs = {name: efficientnet_v2(name, variant) for name, variant in VARIANTS.items()}
    twins = [_tensorflow_twin(arch) for name, arch in archs.items() if name not in _WITHOUT_TENSORFLOW_TWIN]
    torchvision = [
        torchvision_twin(archs[name], alias, preprocessing, bn_eps=BN_EPS_TF)
        for alias, (name, preprocessing) in _TORCHVISION.items()
    ]
    return [*archs.values(), *twins, *torchvision]
