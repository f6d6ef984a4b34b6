"""EfficientNet-Lite0-4: tensorflow/tpu, models/official/efficientnet/lite. ReLU6, no squeeze-excite."""

from __future__ import annotations

from dataclasses import replace

from .arch import INCEPTION_MEAN, INCEPTION_STD, Arch, Head, Preprocessing, Stem, tensorflow_twin
from .efficientnet import B0, crop_pct
from .scaling import Style, resolve_stages

# width, depth, resolution, dropout. 280 and 300 are the official evaluation sizes; timm evaluates these two
# at 300 and 380.
COMPOUND = {
    "efficientnet_lite0": (1.0, 1.0, 224, 0.2),
    "efficientnet_lite1": (1.0, 1.1, 240, 0.2),
    "efficientnet_lite2": (1.1, 1.2, 260, 0.3),
    "efficientnet_lite3": (1.2, 1.4, 280, 0.3),
    "efficientnet_lite4": (1.4, 1.8, 300, 0.3),
}


def efficientnet_lite(name: str, width: float, depth: float, resolution: int, dropout: float) -> Arch:
    """Scale the B0 rows; stem and head keep their width, the first and the last stage their depth."""
    stem = Stem(channels=32, act="relu6")
    return Arch(
        name=name,
        family="EfficientNet-Lite",
        stem=stem,
        # Without a squeeze rule the se option of B0's rows is dropped.
        stages=resolve_stages(
            B0, Style(act=stem.act), in_channels=stem.channels, width=width, depth=depth, scale_ends=False
        ),
        head=Head(channels=1280, act=stem.act),
        drop_rate=dropout,
        preprocessing=Preprocessing(resolution=resolution, crop_pct=crop_pct(resolution)),
        source="tensorflow/tpu efficientnet/lite",
    )


def _with_tensorflow_pixels(arch: Arch) -> Arch:
    """TensorFlow's Lite models take pixels in [-1, 1]."""
    return replace(arch, preprocessing=replace(arch.preprocessing, mean=INCEPTION_MEAN, std=INCEPTION_STD))


def rows() -> list[Arch]:
    native = [efficientnet_lite(name, *compound) for name, compound in COMPOUND.items()]
    return native + [_with_tensorflow_pixels(tensorflow_twin(arch)) for arch in native]
