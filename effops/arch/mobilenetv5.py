"""MobileNetV5, the image encoder of Gemma 3n: no paper describes it, the rows are those of timm's mobilenetv5.py.

The blocks are MobileNetV4's, under root mean square norms. The maps of the last two stages are fused into one of a
fixed size.
"""

from __future__ import annotations

from dataclasses import replace

from .arch import INCEPTION_MEAN, INCEPTION_STD, Arch, Preprocessing, Stem
from .blocks import UniversalInvertedResidual
from .fusion import Fusion
from .norm import Norm
from .scaling import Style, resolve_stages, round_channels

_START = (
    ("er_r1_k3_s2_e4_c128", "er_r2_k3_s1_e4_c128"),
    ("uir_r1_a3_k5_s2_e6_c256", *("uir_r1_a5_k0_s1_e4_c256", "uir_r1_a3_k0_s1_e4_c256") * 2),
)
BASE = (
    *_START,
    (
        "uir_r1_a5_k5_s2_e6_c512",
        "uir_r2_a5_k0_s1_e4_c512",
        "uir_r1_a0_k0_s1_e1_c512",
        *("mqa_r1_k3_s1_h8_d64_c512", "uir_r1_a0_k0_s1_e2_c512") * 6,
    ),
    ("uir_r1_a5_k5_s2_e6_c1024", *("mqa_r1_k3_s1_h16_d64_c1024", "uir_r1_a0_k0_s1_e2_c1024") * 7),
)
LARGE = (
    *_START,
    (
        "uir_r1_a5_k5_s2_e6_c640",
        "uir_r7_a5_k0_s1_e4_c640",
        "uir_r1_a0_k0_s1_e1_c640",
        *("mqa_r1_k3_s1_h12_d64_v2_c640", "uir_r1_a0_k0_s1_e2_c640") * 14,
    ),
    ("uir_r1_a5_k5_s2_e6_c1280", *("mqa_r1_k3_s1_h16_d96_c1280", "uir_r1_a0_k0_s1_e2_c1280") * 19),
)


def mobilenet_v5(
    name: str, stages: tuple[tuple[str, ...], ...], preprocessing: Preprocessing, width: float = 1.0
) -> Arch:
    """Scale the rows; a narrower network keeps the stem and the fused map."""
    act = "gelu_tanh"
    stem = Stem(channels=64, act=act, bias=True, nested=True)
    style = Style(act=act, layer_scale=1e-5)
    resolved = resolve_stages(stages, style, in_channels=stem.channels, width=width)
    last = len(resolved)
    return Arch(
        name=name,
        family="MobileNetV5",
        stem=stem,
        stages=resolved,
        fusion=Fusion(
            stages=(last - 1, last),
            block=_fused(sum(stage[-1].out_channels for stage in resolved[-2:]), 2048, act),
            resolution=16,
        ),
        head=None,
        norm=Norm("rms"),
        bn_eps=1e-6,
        preprocessing=preprocessing,
        source="timm",
    )


def _fused(in_channels: int, out_channels: int, act: str) -> UniversalInvertedResidual:
    return UniversalInvertedResidual(
        in_channels=in_channels,
        mid_channels=round_channels(2 * in_channels),
        out_channels=out_channels,
        kernel_size=0,
        stride=1,
        act=act,
        residual=False,
    )


def rows() -> list[Arch]:
    gemma = Preprocessing(resolution=768, crop_pct=1.0, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))
    base = Preprocessing(resolution=256, crop_pct=1.0, mean=INCEPTION_MEAN, std=INCEPTION_STD)
    large = mobilenet_v5("mobilenetv5_300m", LARGE, gemma)
    encoder = replace(large, name="mobilenetv5_300m_enc", padding="same", global_pool="", num_classes=0)
    return [mobilenet_v5("mobilenetv5_base", BASE, base), large, encoder]
