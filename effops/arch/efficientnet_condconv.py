"""EfficientNet-CondConv: Yang et al., arXiv 1904.04971, and tensorflow/tpu, models/official/efficientnet/condconv."""

from __future__ import annotations

from dataclasses import replace

from .arch import INCEPTION_MEAN, INCEPTION_STD, Arch, Head, Preprocessing, Stem, tensorflow_twin
from .efficientnet import B0, crop_pct
from .scaling import SqueezeRule, Style, resolve_stages, round_channels

# The last three stages of B0 have four experts, or twice as many.
ROWS = (*B0[:4], *(tuple(f"{string}_cc4" for string in stage) for stage in B0[4:]))

# depth, resolution, dropout, factor of the experts
COMPOUND = {
    "efficientnet_cc_b0_4e": (1.0, 224, 0.25, 1),
    "efficientnet_cc_b0_8e": (1.0, 224, 0.25, 2),
    "efficientnet_cc_b1_8e": (1.1, 240, 0.25, 2),
}


def efficientnet_condconv(name: str, depth: float, resolution: int, dropout: float, experts: int) -> Arch:
    """Scale the rows."""
    stem = Stem(channels=round_channels(32), act="silu")
    return Arch(
        name=name,
        family="EfficientNet-CondConv",
        stem=stem,
        stages=resolve_stages(
            ROWS,
            Style(act=stem.act, squeeze=SqueezeRule(base="input", gate="sigmoid"), experts=experts),
            in_channels=stem.channels,
            depth=depth,
        ),
        head=Head(channels=1280, act=stem.act),
        drop_rate=dropout,
        preprocessing=Preprocessing(resolution=resolution, crop_pct=crop_pct(resolution)),
        source="arXiv 1904.04971",
    )


def _tensorflow_twin(arch: Arch) -> Arch:
    """TensorFlow's release takes pixels in [-1, 1]."""
    twin = tensorflow_twin(arch)
    return replace(twin, preprocessing=replace(twin.preprocessing, mean=INCEPTION_MEAN, std=INCEPTION_STD))


def rows() -> list[Arch]:
    native = [efficientnet_condconv(name, *compound) for name, compound in COMPOUND.items()]
    return native + [_tensorflow_twin(arch) for arch in native]
