"""Depthwise separable block, inverted residual (MBConv) and fused inverted residual (FusedMBConv)."""

from __future__ import annotations

from torch import Tensor, nn

from .activation import check_activation
from .anti_alias import pool_and_stride
from .conv import Padding, conv2d
from .drop_path import DropPath
from .squeeze_excite import squeeze_excite_or_identity
from .units import Unit, UnitModule, gate_of


class DepthwiseSeparable(UnitModule):
    """Depthwise convolution, optional squeeze-excite, pointwise projection; residual where the shapes allow it.

    In eval one op (:func:`effops.ops.mbconv`), in training one chain. Keys: ``conv_dw bn1 se conv_pw bn2``.

    Args:
        se_channels: width of the squeeze-excite bottleneck, 0 for none.
        se_act: activation in it, None for ``act``.
        se_gate: "sigmoid" (EfficientNet) or "hardsigmoid" (MobileNetV3).
        project_act: activation after the projection (MobileNetV1).
        residual: add the input at stride 1 with equal channels.
        drop_path: stochastic depth rate of the residual branch, in training.
        padding: None (symmetric), "same" (TensorFlow's SAME) or zeros on each side.
        group_size: channels that a filter of the spatial convolution reads; only with 1 is it depthwise.
        anti_alias: "avg" or "blur" takes the stride after the convolution, None in it.
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
        project_act: str = "identity",
        residual: bool = True,
        drop_path: float = 0.0,
        group_size: int = 1,
        anti_alias: str | None = None,
        bn_eps: float = 1e-5,
        bn_momentum: float = 0.1,
    ) -> None:
        super().__init__()
        check_activation(act)
        check_activation(project_act)
        self.act = act
        self.project_act = project_act
        self.has_residual = residual and stride == 1 and in_channels == out_channels
        self.aa, stride = pool_and_stride(anti_alias, in_channels, stride)
        groups = in_channels // group_size
        self.conv_dw = conv2d(in_channels, in_channels, kernel_size, stride=stride, padding=padding, groups=groups)
        self.bn1 = nn.BatchNorm2d(in_channels, eps=bn_eps, momentum=bn_momentum)
        self.se = squeeze_excite_or_identity(in_channels, se_channels, se_act or act, se_gate)
        self.conv_pw = conv2d(in_channels, out_channels, 1)
        self.bn2 = nn.BatchNorm2d(out_channels, eps=bn_eps, momentum=bn_momentum)
        self.drop_path = DropPath(drop_path)

    def forward(self, x: Tensor) -> Tensor:
        return self._run(self._units, x, residual=self.has_residual, drop_path=self.drop_path)

    def _units(self) -> list[Unit]:
        return [
            Unit("conv_dw", self.conv_dw, self.bn1, self.act, pool=self.aa),
            Unit("conv_pw", self.conv_pw, self.bn2, self.project_act, gate_of(self.se)),
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
        group_size: channels that a filter of the spatial convolution reads; only with 1 is it depthwise.
        anti_alias: "avg" or "blur" takes the stride after the convolution, None in it.
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
        group_size: int = 1,
        anti_alias: str | None = None,
        bn_eps: float = 1e-5,
        bn_momentum: float = 0.1,
    ) -> None:
        super().__init__()
        check_activation(act)
        self.act = act
        self.has_residual = residual and stride == 1 and in_channels == out_channels
        self.conv_pw = conv2d(in_channels, mid_channels, 1)
        self.bn1 = nn.BatchNorm2d(mid_channels, eps=bn_eps, momentum=bn_momentum)
        self.aa, stride = pool_and_stride(anti_alias, mid_channels, stride)
        groups = mid_channels // group_size
        self.conv_dw = conv2d(mid_channels, mid_channels, kernel_size, stride=stride, padding=padding, groups=groups)
        self.bn2 = nn.BatchNorm2d(mid_channels, eps=bn_eps, momentum=bn_momentum)
        self.se = squeeze_excite_or_identity(mid_channels, se_channels, se_act or act, se_gate)
        self.conv_pwl = conv2d(mid_channels, out_channels, 1)
        self.bn3 = nn.BatchNorm2d(out_channels, eps=bn_eps, momentum=bn_momentum)
        self.drop_path = DropPath(drop_path)

    def forward(self, x: Tensor) -> Tensor:
        return self._run(self._units, x, residual=self.has_residual, drop_path=self.drop_path)

    def _units(self) -> list[Unit]:
        return [
            Unit("conv_pw", self.conv_pw, self.bn1, self.act),
            Unit("conv_dw", self.conv_dw, self.bn2, self.act, pool=self.aa),
            Unit("conv_pwl", self.conv_pwl, self.bn3, "identity", gate_of(self.se)),
        ]


class FusedMBConv(UnitModule):
    """Fused inverted residual: dense convolution that expands, optional squeeze-excite, linear projection.

    Tan and Le, arXiv 2104.00298, section 3.2; timm calls it EdgeResidual. In eval one op
    (:func:`effops.ops.fused_mbconv`), in training one chain. Keys: ``conv_exp bn1 se conv_pwl bn2``.

    Args:
        mid_channels: width after the expansion.
        se_channels: width of the squeeze-excite bottleneck, 0 for none.
        se_act: activation in it, None for ``act``.
        se_gate: "sigmoid" (EfficientNet) or "hardsigmoid" (MobileNetV3).
        residual: add the input at stride 1 with equal channels.
        drop_path: stochastic depth rate of the residual branch, in training.
        padding: None (symmetric), "same" (TensorFlow's SAME) or zeros on each side.
        group_size: channels that the expansion makes in one group, 0 for one group of all.
        anti_alias: "avg" or "blur" takes the stride after the convolution, None in it.
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
        group_size: int = 0,
        anti_alias: str | None = None,
        bn_eps: float = 1e-5,
        bn_momentum: float = 0.1,
    ) -> None:
        super().__init__()
        check_activation(act)
        self.act = act
        self.has_residual = residual and stride == 1 and in_channels == out_channels
        self.aa, stride = pool_and_stride(anti_alias, mid_channels, stride)
        groups = mid_channels // group_size if group_size else 1
        self.conv_exp = conv2d(in_channels, mid_channels, kernel_size, stride=stride, padding=padding, groups=groups)
        self.bn1 = nn.BatchNorm2d(mid_channels, eps=bn_eps, momentum=bn_momentum)
        self.se = squeeze_excite_or_identity(mid_channels, se_channels, se_act or act, se_gate)
        self.conv_pwl = conv2d(mid_channels, out_channels, 1)
        self.bn2 = nn.BatchNorm2d(out_channels, eps=bn_eps, momentum=bn_momentum)
        self.drop_path = DropPath(drop_path)

    def forward(self, x: Tensor) -> Tensor:
        return self._run(self._units, x, residual=self.has_residual, drop_path=self.drop_path)

    def _units(self) -> list[Unit]:
        return [
            Unit("conv_exp", self.conv_exp, self.bn1, self.act, pool=self.aa),
            Unit("conv_pwl", self.conv_pwl, self.bn2, "identity", gate_of(self.se)),
        ]
