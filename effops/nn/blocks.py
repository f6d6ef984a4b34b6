"""The blocks with a depthwise convolution: depthwise separable, and the inverted residual (MBConv)."""

from __future__ import annotations

from torch import Tensor, nn

from effops.ops import checks
from effops.ops.blocks import mbconv
from effops.ops.training import conv_bn_chain

from .activation import activate
from .conv import Padding, conv2d, op_padding
from .drop_path import DropPath
from .folding import Folded, FoldingModule
from .plain import is_plain
from .squeeze_excite import SqueezeExcite
from .training import layer


class _DepthwiseBlock(FoldingModule):
    """What follows the expansion in both blocks: depthwise convolution, squeeze-excite, linear projection."""

    se: SqueezeExcite | nn.Identity
    drop_path: DropPath
    has_residual: bool
    act: str

    def _fold_all(self, pairs: tuple[tuple[str, str], ...]) -> list[Folded] | None:
        """Folded weights of every pair, or None when the block has to run module by module."""
        se = self._modules["se"]
        if not (se.is_plain() if isinstance(se, SqueezeExcite) else is_plain(se, (nn.Identity,))):
            return None
        folded = []
        for conv_name, bn_name in pairs:
            weights = self._folded(conv_name, bn_name)
            if weights is None:
                return None
            folded.append(weights)
        return folded

    def _unfolded(self, x: Tensor, layers: tuple[tuple[str, str, str], ...]) -> Tensor:
        """For training: one chain where the modules allow it, else module by module.

        Args:
            layers: names of convolution and batch norm, and the activation; squeeze-excite stands before the last.
        """
        modules = self._modules
        gates = (None,) * (len(layers) - 1) + (modules["se"],)
        chain = [layer(modules[conv], modules[bn], act, se) for (conv, bn, act), se in zip(layers, gates, strict=True)]
        if all(chain) and (not self.has_residual or is_plain(modules["drop_path"], (DropPath,))):
            scale = modules["drop_path"].sample_scale(x) if self.has_residual else None
            return conv_bn_chain(x, chain, residual=self.has_residual, sample_scale=scale, memory=self.memory)
        y = x
        for (conv, bn, act), se in zip(layers, gates, strict=True):
            y = y if se is None else se(y)
            y = activate(modules[bn](modules[conv](y)), act)
        return self.drop_path(y) + x if self.has_residual else y

    def _run_folded(self, x: Tensor, expand: Folded | None, depthwise: Folded, project: Folded) -> Tensor:
        modules = self._modules
        se, conv_dw = modules["se"], modules["conv_dw"]
        return mbconv(
            x,
            expand,
            depthwise,
            project,
            stride=conv_dw.stride,
            padding=op_padding(conv_dw),
            dilation=conv_dw.dilation,
            act=self.act,
            squeeze_excite=se.gate_weights() if isinstance(se, SqueezeExcite) else None,
            residual=self.has_residual,
        )


class DepthwiseSeparable(_DepthwiseBlock):
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
        folded = None if self.training else self._fold_all((("conv_dw", "bn1"), ("conv_pw", "bn2")))
        if folded is None:
            return self._unfolded(x, (("conv_dw", "bn1", self.act), ("conv_pw", "bn2", "identity")))
        return self._run_folded(x, None, *folded)


class MBConv(_DepthwiseBlock):
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
        pairs = (("conv_pw", "bn1"), ("conv_dw", "bn2"), ("conv_pwl", "bn3"))
        folded = None if self.training else self._fold_all(pairs)
        if folded is None:
            layers = (("conv_pw", "bn1", self.act), ("conv_dw", "bn2", self.act), ("conv_pwl", "bn3", "identity"))
            return self._unfolded(x, layers)
        return self._run_folded(x, *folded)


def _squeeze_excite(channels: int, reduced: int, act: str, gate: str) -> SqueezeExcite | nn.Identity:
    return SqueezeExcite(channels, reduced, act=act, gate=gate) if reduced else nn.Identity()
