"""MobileNetV3 large and small: Howard et al., arXiv 1905.02244, Tables 1 and 2.

The minimalistic variants of the authors' release have no squeeze-excite, no h-swish and no 5 x 5 kernels.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from .arch import (
    BN_EPS,
    BN_EPS_TF,
    BN_MOMENTUM_TF,
    INCEPTION_MEAN,
    INCEPTION_STD,
    Arch,
    Head,
    Preprocessing,
    Stem,
    tensorflow_twin,
    torchvision_twin,
)
from .scaling import SqueezeRule, Style, resolve_stages, round_channels

LARGE = (
    ("ds_r1_k3_s1_e1_c16_nre",),
    ("ir_r1_k3_s2_e4_c24_nre", "ir_r1_k3_s1_e3_c24_nre"),
    ("ir_r3_k5_s2_e3_c40_se0.25_nre",),
    ("ir_r1_k3_s2_e6_c80", "ir_r1_k3_s1_e2.5_c80", "ir_r2_k3_s1_e2.3_c80"),
    ("ir_r2_k3_s1_e6_c112_se0.25",),
    ("ir_r3_k5_s2_e6_c160_se0.25",),
    ("cn_r1_k1_s1_c960",),
)
LARGE_MINIMAL = (
    ("ds_r1_k3_s1_e1_c16",),
    ("ir_r1_k3_s2_e4_c24", "ir_r1_k3_s1_e3_c24"),
    ("ir_r3_k3_s2_e3_c40",),
    ("ir_r1_k3_s2_e6_c80", "ir_r1_k3_s1_e2.5_c80", "ir_r2_k3_s1_e2.3_c80"),
    ("ir_r2_k3_s1_e6_c112",),
    ("ir_r3_k3_s2_e6_c160",),
    ("cn_r1_k1_s1_c960",),
)
SMALL = (
    ("ds_r1_k3_s2_e1_c16_se0.25_nre",),
    ("ir_r1_k3_s2_e4.5_c24_nre", "ir_r1_k3_s1_e3.67_c24_nre"),
    ("ir_r1_k5_s2_e4_c40_se0.25", "ir_r2_k5_s1_e6_c40_se0.25"),
    ("ir_r2_k5_s1_e3_c48_se0.25",),
    ("ir_r3_k5_s2_e6_c96_se0.25",),
    ("cn_r1_k1_s1_c576",),
)
SMALL_MINIMAL = (
    ("ds_r1_k3_s2_e1_c16",),
    ("ir_r1_k3_s2_e4.5_c24", "ir_r1_k3_s1_e3.67_c24"),
    ("ir_r1_k3_s2_e4_c40", "ir_r2_k3_s1_e6_c40"),
    ("ir_r2_k3_s1_e3_c48",),
    ("ir_r3_k3_s2_e6_c96",),
    ("cn_r1_k1_s1_c576",),
)


_SQUEEZE = SqueezeRule(base="expanded", gate="hardsigmoid", divisor=8, act="relu")


@dataclass(frozen=True)
class _Variant:
    rows: tuple[tuple[str, ...], ...]
    act: str
    features: int
    width: float = 1.0
    depth: float = 1.0
    squeeze: SqueezeRule = _SQUEEZE
    head_bias: bool = True
    bn_eps: float = BN_EPS


# The classifier's hidden layer (1280, 1024) is not scaled. small_050 and large_150d are timm's; the authors released
# 0.75, 1.0 and the minimalistic ones.
VARIANTS = {
    "mobilenetv3_large_035": _Variant(LARGE, "hardswish", 1280, width=0.35),
    "mobilenetv3_large_050": _Variant(LARGE, "hardswish", 1280, width=0.5),
    "mobilenetv3_large_125": _Variant(LARGE, "hardswish", 1280, width=1.25),
    "mobilenetv3_large_150": _Variant(LARGE, "hardswish", 1280, width=1.5),
    "mobilenetv3_small_035": _Variant(SMALL, "hardswish", 1024, width=0.35),
    "mobilenetv3_small_125": _Variant(SMALL, "hardswish", 1024, width=1.25),
    "mobilenetv3_small_150": _Variant(SMALL, "hardswish", 1024, width=1.5),
    "mobilenetv3_large_075": _Variant(LARGE, "hardswish", 1280, width=0.75),
    "mobilenetv3_large_100": _Variant(LARGE, "hardswish", 1280),
    "mobilenetv3_large_150d": _Variant(LARGE, "hardswish", 1280, width=1.5, depth=1.2),
    "mobilenetv3_large_minimal_100": _Variant(LARGE_MINIMAL, "relu", 1280),
    "mobilenetv3_small_050": _Variant(SMALL, "hardswish", 1024, width=0.5),
    "mobilenetv3_small_075": _Variant(SMALL, "hardswish", 1024, width=0.75),
    "mobilenetv3_small_100": _Variant(SMALL, "hardswish", 1024),
    "mobilenetv3_small_minimal_100": _Variant(SMALL_MINIMAL, "relu", 1024),
    # timm's, from before the authors' release.
    "mobilenetv3_rw": _Variant(
        (("ds_r1_k3_s1_c16_nre_noskip",), *LARGE[1:]),
        "hardswish",
        1280,
        squeeze=SqueezeRule(base="expanded", gate="hardsigmoid"),
        head_bias=False,
        bn_eps=BN_EPS_TF,
    ),
}
_WITH_TENSORFLOW_TWIN = {
    f"mobilenetv3_{size}_{width}" for size in ("large", "small") for width in ("075", "100", "minimal_100")
}

_TORCHVISION = {"mobilenet_v3_large": "mobilenetv3_large_100", "mobilenet_v3_small": "mobilenetv3_small_100"}


def mobilenet_v3(name: str, variant: _Variant) -> Arch:
    # Below 0.75 the stem keeps its 16 channels, as in timm.
    stem = Stem(channels=16 if variant.width < 0.75 else round_channels(16 * variant.width), act=variant.act)
    return Arch(
        name=name,
        family="MobileNetV3",
        stem=stem,
        stages=resolve_stages(
            variant.rows,
            Style(act=variant.act, squeeze=variant.squeeze),
            in_channels=stem.channels,
            width=variant.width,
            depth=variant.depth,
        ),
        head=Head(channels=variant.features, act=variant.act, pooled=True, norm=False, bias=variant.head_bias),
        bn_eps=variant.bn_eps,
        drop_rate=0.2,
        source="arXiv 1905.02244",
    )


def _tensorflow_twin(arch: Arch) -> Arch:
    """TensorFlow's release takes pixels in [-1, 1]."""
    pixels = Preprocessing(interpolation="bilinear", mean=INCEPTION_MEAN, std=INCEPTION_STD)
    return replace(tensorflow_twin(arch), preprocessing=pixels)


def rows() -> list[Arch]:
    archs = {name: mobilenet_v3(name, variant) for name, variant in VARIANTS.items()}
    twins = [_tensorflow_twin(arch) for name, arch in archs.items() if name in _WITH_TENSORFLOW_TWIN]
    bilinear = Preprocessing(interpolation="bilinear")
    torchvision = [
        torchvision_twin(archs[name], alias, bilinear, bn_eps=BN_EPS_TF, bn_momentum=BN_MOMENTUM_TF)
        for alias, name in _TORCHVISION.items()
    ]
    return [*archs.values(), *twins, *torchvision]
