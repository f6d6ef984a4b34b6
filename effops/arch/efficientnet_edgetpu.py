"""EfficientNet-EdgeTPU S, M and L: tensorflow/tpu, models/official/efficientnet/edgetpu. ReLU, no squeeze-excite."""

from __future__ import annotations

from dataclasses import replace

from .arch import INCEPTION_MEAN, INCEPTION_STD, Arch, Head, Preprocessing, Stem, tensorflow_twin
from .efficientnet import crop_pct
from .scaling import Style, resolve_stages, round_channels

# The first block was written for 24 input channels, while the stem gives 32: the expansion still counts from 24.
ROWS = (
    ("er_r1_k3_s1_e4_c24_fc24_noskip",),
    ("er_r2_k3_s2_e8_c32",),
    ("er_r4_k3_s2_e8_c48",),
    ("ir_r5_k5_s2_e8_c96",),
    ("ir_r4_k5_s1_e8_c144",),
    ("ir_r2_k5_s2_e8_c192",),
)

# width, depth, resolution, dropout
COMPOUND = {
    "efficientnet_es": (1.0, 1.0, 224, 0.2),
    "efficientnet_em": (1.0, 1.1, 240, 0.2),
    "efficientnet_el": (1.2, 1.4, 300, 0.3),
}


def efficientnet_edgetpu(name: str, width: float, depth: float, resolution: int, dropout: float) -> Arch:
    """Scale the rows."""
    stem = Stem(channels=round_channels(32 * width), act="relu")
    return Arch(
        name=name,
        family="EfficientNet-EdgeTPU",
        stem=stem,
        stages=resolve_stages(ROWS, Style(act=stem.act), in_channels=stem.channels, width=width, depth=depth),
        head=Head(channels=round_channels(1280 * width), act=stem.act),
        drop_rate=dropout,
        preprocessing=Preprocessing(resolution=resolution, crop_pct=crop_pct(resolution)),
        source="tensorflow/tpu efficientnet/edgetpu",
    )


def _tensorflow_twin(arch: Arch) -> Arch:
    """TensorFlow's release takes pixels in [-1, 1]."""
    twin = tensorflow_twin(arch)
    return replace(twin, preprocessing=replace(twin.preprocessing, mean=INCEPTION_MEAN, std=INCEPTION_STD))


def rows() -> list[Arch]:
    native = [efficientnet_edgetpu(name, *compound) for name, compound in COMPOUND.items()]
    return native + [_tensorflow_twin(arch) for arch in native]
