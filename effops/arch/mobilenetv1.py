"""MobileNetV1: Howard et al., arXiv 1704.04861, Table 1, with the ReLU6 of the authors' release."""

from __future__ import annotations

from .arch import Arch, Head, Stem
from .scaling import Style, resolve_stages, round_channels

ROWS = (
    ("dsa_r1_k3_s1_c64",),
    ("dsa_r2_k3_s2_c128",),
    ("dsa_r2_k3_s2_c256",),
    ("dsa_r6_k3_s2_c512",),
    ("dsa_r2_k3_s2_c1024",),
)

WIDTHS = {
    "mobilenetv1_025": 0.25,
    "mobilenetv1_050": 0.50,
    "mobilenetv1_075": 0.75,
    "mobilenetv1_100": 1.00,
    "mobilenetv1_125": 1.25,
}


def mobilenet_v1(name: str, width: float, *, head: bool = False) -> Arch:
    """Scale the rows of the paper; ``head`` adds timm's 1 x 1 convolution before the pooling."""
    stem = Stem(channels=round_channels(32 * width), act="relu6")
    return Arch(
        name=name,
        family="MobileNetV1",
        stem=stem,
        stages=resolve_stages(ROWS, Style(act=stem.act), in_channels=stem.channels, width=width),
        head=Head(channels=max(1024, round_channels(1024 * width)), act=stem.act) if head else None,
        drop_rate=0.2,
        source="timm" if head else "arXiv 1704.04861",
    )


def rows() -> list[Arch]:
    return [
        *(mobilenet_v1(name, width) for name, width in WIDTHS.items()),
        mobilenet_v1("mobilenetv1_100h", 1.0, head=True),
    ]
