"""EfficientNet B0-B8 and L2: Tan and Le, arXiv 1905.11946, Table 1, and tensorflow/tpu's builder."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

from .arch import BN_EPS_TF, BN_MOMENTUM_TF, Arch, Head, Preprocessing, Stem, tensorflow_twin, torchvision_twin
from .conv import AntiAlias
from .norm import BATCH_NORM, Norm
from .scaling import SqueezeRule, Style, resolve_stages, round_channels

B0 = (
    ("ds_r1_k3_s1_e1_c16_se0.25",),
    ("ir_r2_k3_s2_e6_c24_se0.25",),
    ("ir_r2_k5_s2_e6_c40_se0.25",),
    ("ir_r3_k3_s2_e6_c80_se0.25",),
    ("ir_r3_k5_s1_e6_c112_se0.25",),
    ("ir_r4_k5_s2_e6_c192_se0.25",),
    ("ir_r1_k3_s1_e6_c320_se0.25",),
)

# width, depth, resolution, dropout
COMPOUND = {
    "efficientnet_b0": (1.0, 1.0, 224, 0.2),
    "efficientnet_b1": (1.0, 1.1, 240, 0.2),
    "efficientnet_b2": (1.1, 1.2, 260, 0.3),
    "efficientnet_b3": (1.2, 1.4, 300, 0.3),
    "efficientnet_b4": (1.4, 1.8, 380, 0.4),
    "efficientnet_b5": (1.6, 2.2, 456, 0.4),
    "efficientnet_b6": (1.8, 2.6, 528, 0.5),
    "efficientnet_b7": (2.0, 3.1, 600, 0.5),
    "efficientnet_b8": (2.2, 3.6, 672, 0.5),
    "efficientnet_l2": (4.3, 5.3, 800, 0.5),
}

# Sizes that torchvision crops to and resizes to before. Its names are timm's, so its rows carry a prefix.
TORCHVISION = {
    "efficientnet_b0": (224, 256),
    "efficientnet_b1": (240, 256),
    "efficientnet_b2": (288, 288),
    "efficientnet_b3": (300, 320),
    "efficientnet_b4": (380, 384),
    "efficientnet_b5": (456, 456),
    "efficientnet_b6": (528, 528),
    "efficientnet_b7": (600, 600),
}
_TORCHVISION_TENSORFLOW_NORM = ("efficientnet_b5", "efficientnet_b6", "efficientnet_b7")

# The reference code resizes to 32 pixels more than it crops.
CROP_PADDING = 32


def crop_pct(resolution: int) -> float:
    """Share of the resized image that the centre crop keeps in the reference code.

    Cut to three digits, not rounded, so that resolution / crop_pct never falls short of the size resized to.
    """
    return 1000 * resolution // (resolution + CROP_PADDING) / 1000


# timm's experiments: the size, channels rounded to a multiple, channels of a group of the spatial convolutions,
# channels of a group norm (0 for batch norm), anti-aliasing.
EXPERIMENTS = {
    "efficientnet_b0_gn": ("efficientnet_b0", 8, 1, 8, None),
    "efficientnet_b0_g8_gn": ("efficientnet_b0", 8, 8, 8, None),
    "efficientnet_b0_g16_evos": ("efficientnet_b0", 16, 16, 0, None),
    "efficientnet_b3_gn": ("efficientnet_b3", 16, 1, 16, None),
    "efficientnet_b3_g8_gn": ("efficientnet_b3", 16, 8, 16, None),
    "efficientnet_blur_b0": ("efficientnet_b0", 8, 1, 0, "blur"),
}


def efficientnet(
    name: str,
    width: float,
    depth: float,
    resolution: int,
    dropout: float,
    *,
    divisor: int = 8,
    group_size: int = 1,
    norm_group: int = 0,
    anti_alias: AntiAlias | None = None,
) -> Arch:
    """Scale the B0 rows."""
    rounding = partial(round_channels, divisor=divisor)
    stem = Stem(channels=rounding(32 * width), act="silu")
    return Arch(
        name=name,
        family="EfficientNet",
        stem=stem,
        stages=resolve_stages(
            B0,
            Style(
                act=stem.act,
                squeeze=SqueezeRule(base="input", gate="sigmoid"),
                round=rounding,
                group_size=group_size,
                anti_alias=anti_alias,
            ),
            in_channels=stem.channels,
            width=width,
            depth=depth,
        ),
        head=Head(channels=rounding(1280 * width), act=stem.act),
        norm=Norm("group", norm_group) if norm_group else BATCH_NORM,
        drop_rate=dropout,
        preprocessing=Preprocessing(resolution=resolution, crop_pct=crop_pct(resolution)),
        source="arXiv 1905.11946",
    )


def _torchvision_twin(arch: Arch) -> Arch:
    crop, resize = TORCHVISION[arch.name]
    norm = {"bn_eps": BN_EPS_TF, "bn_momentum": BN_MOMENTUM_TF} if arch.name in _TORCHVISION_TENSORFLOW_NORM else {}
    return torchvision_twin(arch, f"tv_{arch.name}", Preprocessing(resolution=crop, crop_pct=crop / resize), **norm)


def rows() -> list[Arch]:
    native = [efficientnet(name, *compound) for name, compound in COMPOUND.items()]
    torchvision = [_torchvision_twin(arch) for arch in native if arch.name in TORCHVISION]
    return [*native, *(tensorflow_twin(arch) for arch in native), *torchvision, *_experiments()]


def _experiments() -> list[Arch]:
    archs = []
    for name, (size, divisor, group_size, norm_group, anti_alias) in EXPERIMENTS.items():
        arch = efficientnet(
            name,
            *COMPOUND[size],
            divisor=divisor,
            group_size=group_size,
            norm_group=norm_group,
            anti_alias=anti_alias,
        )
        archs.append(replace(arch, source="timm"))
    return archs
