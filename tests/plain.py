"""Networks that neither timm nor torchvision has, in plain torch, written from tensorflow/models' mobilenet.py.

Their tensors come in the order in which they are used, which is the order of effops' own ``state_dict``.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

# Inverted residuals as (kernel size, stride, output channels, channels after the expansion).
_MAX = [
    *((3, 2, 32, 96), (5, 2, 64, 192), (3, 1, 64, 128), (3, 1, 64, 128)),
    *((5, 2, 128, 384), (3, 1, 128, 512), (3, 1, 128, 384), (3, 1, 128, 384), (3, 1, 128, 768), (3, 1, 128, 384)),
    (3, 2, 160, 768),
]
_AVG = [
    *((3, 2, 32, 96), (3, 1, 32, 64), (5, 2, 64, 160), (3, 1, 64, 192), (3, 1, 64, 128), (3, 1, 64, 192)),
    *((5, 2, 128, 384), (3, 1, 128, 384), (3, 1, 128, 384), (3, 1, 128, 384), (3, 1, 160, 768), (3, 1, 160, 640)),
    (3, 2, 192, 960),
]
# Universal inverted bottlenecks as (start, middle, stride, output channels, channels after the expansion).
_MEDIUM_SEG = [
    *((3, 5, 2, 80, 192), (3, 3, 1, 80, 160), (3, 5, 2, 160, 480), (3, 3, 1, 160, 640), (3, 3, 1, 160, 640)),
    *((3, 5, 1, 160, 640), (3, 3, 1, 160, 640), (3, 0, 1, 160, 640), (3, 0, 1, 160, 640), (5, 5, 2, 256, 960)),
    *((5, 5, 1, 128, 1024), (3, 5, 1, 128, 512), (3, 5, 1, 128, 512), (3, 0, 1, 128, 512), (3, 5, 1, 128, 256)),
    *((5, 5, 1, 128, 512), (5, 0, 1, 128, 256)),
]
# Blocks, and channels of the last convolution before the pooling.
NETWORKS = {
    "mobilenet_multi_max": ([*_MAX, (5, 1, 160, 640), (3, 1, 160, 800), (5, 1, 160, 640)], 960),
    "mobilenet_multi_avg": ([*_AVG, (5, 1, 192, 768), (5, 1, 192, 768), (5, 1, 192, 768)], 960),
    "mobilenet_multi_max_seg": ([*_MAX, (5, 1, 96, 320), (3, 1, 96, 384), (5, 1, 96, 320)], 448),
    "mobilenet_multi_avg_seg": ([*_AVG, (5, 1, 96, 384), (5, 1, 96, 384), (5, 1, 96, 384)], 448),
    "mobilenetv4_conv_medium_seg": (_MEDIUM_SEG, 448),
}


class _Residual(nn.Sequential):
    def forward(self, x: Tensor) -> Tensor:
        return x + super().forward(x)


def _unit(inputs: int, outputs: int, kernel: int = 1, stride: int = 1, *, act: bool = True, depthwise: bool = False):
    groups = inputs if depthwise else 1
    conv = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False)
    return [conv, nn.BatchNorm2d(outputs), *([nn.ReLU()] if act else [])]


def _inverted(inputs: int, spec: Sequence[int]) -> nn.Module:
    *kernels, stride, outputs, mid = spec
    start, middle = kernels if len(kernels) == 2 else (0, *kernels)
    layers = _unit(inputs, inputs, start, act=False, depthwise=True) if start else []
    layers += _unit(inputs, mid)
    if middle:
        layers += _unit(mid, mid, middle, stride, depthwise=True)
    layers += _unit(mid, outputs, act=False)
    return (_Residual if stride == 1 and inputs == outputs else nn.Sequential)(*layers)


def build(name: str, *, num_classes: int = 1000) -> nn.Module:
    """Padding is symmetric and eps is torch's, as in effops' rows without ``tf_``."""
    blocks, last = NETWORKS[name]
    layers, channels = _unit(3, 32, 3, 2), 32
    if name == "mobilenetv4_conv_medium_seg":
        layers += [*_unit(32, 128, 3, 2), *_unit(128, 48, act=False)]
        channels = 48
    for spec in blocks:
        layers.append(_inverted(channels, spec))
        channels = spec[-2]
    layers += [*_unit(channels, last), nn.AdaptiveAvgPool2d(1), *_unit(last, 1280)]
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(1280, num_classes))
