"""The blocks with a depthwise convolution: depthwise separable, and the inverted residual (MBConv)."""

from __future__ import annotations

from torch import Tensor, nn

from effops.ops import checks

from .conv import Padding, conv2d
from .drop_path import DropPath
from .squeeze_excite import SqueezeExcite
from .units import Unit, UnitModule, gate_of


class DepthwiseSeparable(UnitModule):
    """Depthwise convolution, optional squeeze-excite, linear projection; residual where the shapes allow it.

    In eval one op (:func:`effops.ops.mbconv`), in training one chain. Keys: ``conv_dw bn1 se conv_pw bn2``.

    Args:
        se_channels: width of the squeeze-excite bottleneck, 0 for none.
        se_act: activation in it, None for ``act``.
        se_gate: "sigmoid" (EfficientNet) or "hardsigmoid" (MobileNetV3).
        residual: add the input at stride 1 with equal channels.
        drop_path: stochastic depth rate of the residual branch, in training.
        padding: None (symmetric), "same" (TensorFlow's SAME) or zeros on each side.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int = 3,
        *,
        stride: int = 1,
        padding: Padding = None,
        act: str = "relu",
        se_channels: int = 0,
        se_act: str | None = None,
        se_gate: str = "sigmoid",
        residual: bool = True,
        drop_path: float = 0.0,
        bn_eps: float = 1e-5,
        bn_momentum: float = 0.1,
    ) -> None:
        super().__init__()
        checks.activation_code(act)
        self.act = act
        self.has_residual = residual and stride == 1 and in_channels == out_channels
        self.conv_dw = conv2d(in_channels, in_channels, kernel_size, stride=stride, padding=padding, groups=in_channels)
        self.bn1 = nn.BatchNorm2d(in_channels, eps=bn_eps, momentum=bn_momentum)
        self.se = _squeeze_excite(in_channels, se_channels, se_act or act, se_gate)
        self.conv_pw = conv2d(in_channels, out_channels, 1)
        self.bn2 = nn.BatchNorm2d(out_channels, eps=bn_eps, momentum=bn_momentum)
        self.drop_path = DropPath(drop_path)

    def forward(self, x: Tensor) -> Tensor:
        return self._run(self._units, x, residual=self.has_residual, drop_path=self.drop_path)

    def _units(self) -> list[Unit]:
        return [
            Unit("conv_dw", self.conv_dw, self.bn1, self.act),
            Unit("conv_pw", self.conv_pw, self.bn2, "identity", gate_of(self.se)),
        ]


class MBConv(UnitModule):
    """Inverted residual: pointwise expansion, depthwise convolution, optional squeeze-excite, linear projection.

    Sandler et al., arXiv 1801.04381, section 3.3; with squeeze-excite the MBConv of EfficientNet and
    MobileNetV3. In eval one op (:func:`effops.ops.mbconv`), in training one chain. Keys: ``conv_pw bn1 conv_dw bn2 se
    conv_pwl bn3``.

    Args:
        mid_channels: width after the expansion.
        se_channels: width of the squeeze-excite bottleneck, 0 for none.
        se_act: activation in it, None for ``act``.
        se_gate: "sigmoid" (EfficientNet) or "hardsigmoid" (MobileNetV3).
        residual: add the input at stride 1 with equal channels.
        drop_path: stochastic depth rate of the residual branch, in training.
        padding: None (symmetric), "same" (TensorFlow's SAME) or zeros on each side.
    """

    def __init__(
        self,
        in_channels: int,
        mid_channels: int,
        out_channels: int,
        kernel_size: int = 3,
        *,
        stride: int = 1,
        padding: Padding = None,
        act: str = "relu",
        se_channels: int = 0,
        se_act: str | None = None,
        se_gate: str = "sigmoid",
        residual: bool = True,
        drop_path: float = 0.0,
        bn_eps: float = 1e-5,
        bn_momentum: float = 0.1,
    ) -> None:
        super().__init__()
        checks.activation_code(act)
        self.act = act
        self.has_residual = residual and stride == 1 and in_channels == out_channels
        self.conv_pw = conv2d(in_channels, mid_channels, 1)
        self.bn1 = nn.BatchNorm2d(mid_channels, eps=bn_eps, momentum=bn_momentum)
        self.conv_dw = conv2d(
            mid_channels, mid_channels, kernel_size, stride=stride, padding=padding, groups=mid_channels
        )
        self.bn2 = nn.BatchNorm2d(mid_channels, eps=bn_eps, momentum=bn_momentum)
        self.se = _squeeze_excite(mid_channels, se_channels, se_act or act, se_gate)
        self.conv_pwl = conv2d(mid_channels, out_channels, 1)
        self.bn3 = nn.BatchNorm2d(out_channels, eps=bn_eps, momentum=bn_momentum)
        self.drop_path = DropPath(drop_path)

    def forward(self, x: Tensor) -> Tensor:
        return self._run(self._units, x, residual=self.has_residual, drop_path=self.drop_path)

    def _units(self) -> list[Unit]:
        return [
            Unit("conv_pw", self.conv_pw, self.bn1, self.act),
            Unit("conv_dw", self.conv_dw, self.bn2, self.act),
            Unit("conv_pwl", self.conv_pwl, self.bn3, "identity", gate_of(self.se)),
        ]


def _squeeze_excite(channels: int, reduced: int, act: str, gate: str) -> SqueezeExcite | nn.Identity:
    return SqueezeExcite(channels, reduced, act=act, gate=gate) if reduced else nn.Identity()
