"""MobileNet-EdgeTPU v1, and v2 XS, S, M and L: tensorflow/models, official/projects/edgetpu/vision."""

from __future__ import annotations

from dataclasses import dataclass

from .arch import Arch, Head, Preprocessing, Stem
from .scaling import Style, resolve_stages

V1 = (
    ("cn_r1_k1_s1_c16",),
    ("er_r1_k3_s2_e8_c32", "er_r3_k3_s1_e4_c32"),
    ("er_r1_k3_s2_e8_c48", "er_r3_k3_s1_e4_c48"),
    ("ir_r1_k3_s2_e8_c96", "ir_r3_k3_s1_e4_c96"),
    ("ir_r1_k3_s1_e8_c96_noskip", "ir_r3_k3_s1_e4_c96"),
    ("ir_r1_k5_s2_e8_c160", "ir_r3_k5_s1_e4_c160"),
    ("ir_r1_k3_s1_e8_c192",),
)


@dataclass(frozen=True, kw_only=True)
class _V2:
    """Output channels of the stages, and what else the sizes of v2 differ in."""

    channels: tuple[int, int, int, int, int, int, int]
    stem: int = 64
    stem_kernel_size: int = 5
    group_size: int = 64
    features: int = 1280

    def rows(self) -> tuple[tuple[str, ...], ...]:
        c, grouped = self.channels, f"er_r1_k3_s1_e4_gs{self.group_size}"
        return (
            (f"cn_r1_k1_s1_c{c[0]}",),
            (f"er_r1_k3_s2_e8_c{c[1]}", f"{grouped}_c{c[1]}"),
            (f"er_r1_k3_s2_e8_c{c[2]}", f"{grouped}_c{c[2]}", f"er_r1_k3_s1_e4_c{c[2]}", f"{grouped}_c{c[2]}"),
            (f"er_r1_k3_s2_e8_c{c[3]}", f"ir_r3_k3_s1_e4_c{c[3]}"),
            (f"ir_r1_k3_s1_e8_c{c[4]}", f"ir_r3_k3_s1_e4_c{c[4]}"),
            (f"ir_r1_k3_s2_e8_c{c[5]}", f"ir_r3_k3_s1_e4_c{c[5]}"),
            (f"ir_r1_k3_s1_e8_c{c[6]}",),
        )


V2 = {
    "mobilenet_edgetpu_v2_xs": _V2(channels=(16, 32, 48, 96, 144, 160, 192), stem=32, stem_kernel_size=3),
    "mobilenet_edgetpu_v2_s": _V2(channels=(24, 48, 64, 128, 160, 192, 256)),
    "mobilenet_edgetpu_v2_m": _V2(channels=(32, 64, 80, 160, 192, 240, 320), features=1344),
    "mobilenet_edgetpu_v2_l": _V2(
        channels=(32, 64, 96, 192, 240, 256, 384), stem_kernel_size=7, group_size=128, features=1408
    ),
}


def _arch(name: str, stem: Stem, strings: tuple[tuple[str, ...], ...], features: int) -> Arch:
    return Arch(
        name=name,
        family="MobileNet-EdgeTPU",
        stem=stem,
        stages=resolve_stages(strings, Style(act=stem.act), in_channels=stem.channels),
        head=Head(channels=features, act=stem.act),
        drop_rate=0.1,
        preprocessing=Preprocessing(crop_pct=0.9),
        source="tensorflow/models edgetpu/vision",
    )


def rows() -> list[Arch]:
    second = [
        _arch(
            name,
            Stem(channels=size.stem, kernel_size=size.stem_kernel_size, act="relu"),
            size.rows(),
            size.features,
        )
        for name, size in V2.items()
    ]
    return [_arch("mobilenet_edgetpu_100", Stem(channels=32, act="relu"), V1, 1280), *second]
