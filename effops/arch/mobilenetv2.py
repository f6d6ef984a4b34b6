"""MobileNetV2: Sandler et al., arXiv 1801.04381, Table 2."""

from __future__ import annotations

from .arch import Arch, Head, Preprocessing, Stem, torchvision_twin
from .scaling import Style, resolve_stages, round_channels

ROWS = (
    ("ds_r1_k3_s1_c16",),
    ("ir_r2_k3_s2_e6_c24",),
    ("ir_r3_k3_s2_e6_c32",),
    ("ir_r4_k3_s2_e6_c64",),
    ("ir_r3_k3_s1_e6_c96",),
    ("ir_r3_k3_s2_e6_c160",),
    ("ir_r1_k3_s1_e6_c320",),
)

WIDTHS = {
    "mobilenetv2_035": 0.35,
    "mobilenetv2_050": 0.50,
    "mobilenetv2_075": 0.75,
    "mobilenetv2_100": 1.00,
    "mobilenetv2_130": 1.30,
    "mobilenetv2_140": 1.40,
}

# timm's deeper variants: width, depth; stem and head keep their width, the end stages their depth.
DEEPER = {
    "mobilenetv2_110d": (1.1, 1.2),
    "mobilenetv2_120d": (1.2, 1.4),
}


def mobilenet_v2(name: str, width: float, depth: float = 1.0, *, scale_ends: bool = True) -> Arch:
    """Scale the rows of the paper. The head is never narrower than 1280 (section 4.1)."""
    stem = Stem(channels=round_channels(32 * width) if scale_ends else 32, act="relu6")
    return Arch(
        name=name,
        family="MobileNetV2",
        stem=stem,
        stages=resolve_stages(
            ROWS, Style(act=stem.act), in_channels=stem.channels, width=width, depth=depth, scale_ends=scale_ends
        ),
        head=Head(channels=max(1280, round_channels(1280 * width)) if scale_ends else 1280, act=stem.act),
        drop_rate=0.2,
        source="arXiv 1801.04381",
    )


def rows() -> list[Arch]:
    archs = [mobilenet_v2(name, width) for name, width in WIDTHS.items()]
    archs += [mobilenet_v2(name, *compound, scale_ends=False) for name, compound in DEEPER.items()]
    torchvision = torchvision_twin(
        mobilenet_v2("mobilenetv2_100", 1.0),
        "mobilenet_v2",
        Preprocessing(interpolation="bilinear"),
    )
    return [*archs, torchvision]
