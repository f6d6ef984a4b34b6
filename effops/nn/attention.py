"""The attention block of MobileNetV4: Qin et al., arXiv 2404.10518, section 5."""

from __future__ import annotations

from torch import Tensor, nn

from effops.ops.attention import mobile_mqa

from .conv import Padding, conv2d
from .drop_path import DropPath
from .layer_scale import layer_scale
from .units import Unit, UnitModule


class _Projection(UnitModule):
    """1 x 1 convolution, after a strided depthwise one with batch norm where the map is made smaller.

    Keys: ``down_conv``, ``norm``, ``proj``.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        stride: int = 1,
        kernel_size: int = 3,
        padding: Padding = None,
        bn_eps: float = 1e-5,
        bn_momentum: float = 0.1,
    ) -> None:
        super().__init__()
        if stride > 1:
            self.down_conv = conv2d(
                in_channels, in_channels, kernel_size, stride=stride, padding=padding, groups=in_channels
            )
            self.norm = nn.BatchNorm2d(in_channels, eps=bn_eps, momentum=bn_momentum)
        self.proj = conv2d(in_channels, out_channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        project = Unit("proj", self.proj, None, "identity")
        if "down_conv" not in self._modules:
            return self._run(lambda: [project], x)
        down = Unit("down_conv", self.down_conv, self.norm, "identity")
        # In training a unit without batch norm is no part of a chain.
        if self.training:
            return self._run(lambda: [project], self._run(lambda: [down], x))
        return self._run(lambda: [down, project], x)


class MultiQueryAttention(nn.Module):
    """Multi-query attention over all pixels, keys and values from a map that may be smaller; no biases.

    The attention itself is :func:`effops.ops.mobile_mqa`. Keys: ``query key value output``, each with ``proj``.

    Args:
        heads: queries a pixel.
        key_channels: length of a query, of a key and of a value.
        key_stride: how much smaller the map of keys and values is; made by depthwise convolutions.
        kernel_size, padding: of those.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        heads: int,
        key_channels: int,
        key_stride: int = 1,
        kernel_size: int = 3,
        padding: Padding = None,
        bn_eps: float = 1e-5,
        bn_momentum: float = 0.1,
    ) -> None:
        super().__init__()
        reduction = {
            "stride": key_stride,
            "kernel_size": kernel_size,
            "padding": padding,
            "bn_eps": bn_eps,
            "bn_momentum": bn_momentum,
        }
        self.heads = heads
        self.query = _Projection(in_channels, heads * key_channels)
        self.key = _Projection(in_channels, key_channels, **reduction)
        self.value = _Projection(in_channels, key_channels, **reduction)
        self.output = _Projection(heads * key_channels, out_channels)

    def forward(self, x: Tensor) -> Tensor:
        return self.output(mobile_mqa(self.query(x), self.key(x), self.value(x), heads=self.heads))


class MobileAttention(nn.Module):
    """Batch norm, multi-query attention, layer scale, residual. Keys: ``norm attn layer_scale``.

    Args:
        heads, key_channels, key_stride, kernel_size, padding: as in :class:`MultiQueryAttention`.
        layer_scale_init: first value of the layer scale, None for no layer scale.
        residual: add the input where the channels are equal.
        drop_path: stochastic depth rate of the residual branch, in training.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        heads: int,
        key_channels: int,
        key_stride: int = 1,
        kernel_size: int = 3,
        padding: Padding = None,
        layer_scale_init: float | None = None,
        residual: bool = True,
        drop_path: float = 0.0,
        bn_eps: float = 1e-5,
        bn_momentum: float = 0.1,
    ) -> None:
        super().__init__()
        self.has_residual = residual and in_channels == out_channels
        self.norm = nn.BatchNorm2d(in_channels, eps=bn_eps, momentum=bn_momentum)
        self.attn = MultiQueryAttention(
            in_channels,
            out_channels,
            heads=heads,
            key_channels=key_channels,
            key_stride=key_stride,
            kernel_size=kernel_size,
            padding=padding,
            bn_eps=bn_eps,
            bn_momentum=bn_momentum,
        )
        self.layer_scale = layer_scale(out_channels, layer_scale_init)
        self.drop_path = DropPath(drop_path)

    def forward(self, x: Tensor) -> Tensor:
        y = self.layer_scale(self.attn(self.norm(x)))
        return self.drop_path(y) + x if self.has_residual else y
