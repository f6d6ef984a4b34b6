"""The universal inverted bottleneck of MobileNetV4: Qin et al., arXiv 2404.10518, section 4."""

from __future__ import annotations

from torch import Tensor, nn

from effops.errors import ArgumentError

from .activation import check_activation
from .anti_alias import pool_and_stride
from .conv import Padding, conv2d
from .conv_bn import ConvBN, nested_unit
from .drop_path import DropPath
from .layer_scale import LayerScale2d, layer_scale
from .plain import is_plain
from .squeeze_excite import squeeze_excite_or_identity
from .units import Unit, UnitModule, gate_of


class UniversalInvertedResidual(UnitModule):
    """Inverted residual with up to three depthwise convolutions: at the start, in the middle, at the end.

        y = dw_end(W2 gate(act(dw_mid(act(W1 dw_start(x)))))) * scale + x

    each followed by its batch norm. Start and middle make the four forms of the paper: ExtraDW (both), inverted
    bottleneck (middle), ConvNeXt-like (start), FFN (none). In eval folded ops, in training one chain. Keys:
    ``dw_start pw_exp dw_mid se pw_proj dw_end layer_scale``, those with a convolution with ``conv`` and ``bn``.

    Args:
        mid_channels: width after the expansion.
        start_kernel_size, mid_kernel_size, end_kernel_size: of the depthwise convolutions, 0 for none.
        stride: taken by the middle one; by the start where there is no middle, by the end where it is alone.
        se_channels: width of the squeeze-excite bottleneck, 0 for none.
        se_act: activation in it, None for ``act``.
        se_gate: "sigmoid" or "hardsigmoid".
        layer_scale_init: first value of the layer scale, None for no layer scale.
        residual: add the input at stride 1 with equal channels.
        drop_path: stochastic depth rate of the residual branch, in training.
        padding: None (symmetric), "same" (TensorFlow's SAME) or zeros on each side.
        anti_alias: "avg" or "blur" takes the stride after the convolution, None in it.
    """

    def __init__(
        self,
        in_channels: int,
        mid_channels: int,
        out_channels: int,
        *,
        start_kernel_size: int = 0,
        mid_kernel_size: int = 3,
        end_kernel_size: int = 0,
        stride: int = 1,
        padding: Padding = None,
        act: str = "relu",
        se_channels: int = 0,
        se_act: str | None = None,
        se_gate: str = "sigmoid",
        layer_scale_init: float | None = None,
        residual: bool = True,
        drop_path: float = 0.0,
        anti_alias: str | None = None,
        bn_eps: float = 1e-5,
        bn_momentum: float = 0.1,
    ) -> None:
        super().__init__()
        check_activation(act)
        self.act = act
        self.has_residual = residual and stride == 1 and in_channels == out_channels
        sizes = {"dw_mid": mid_kernel_size, "dw_start": start_kernel_size, "dw_end": end_kernel_size}
        strided = next((name for name, size in sizes.items() if size), None)
        if stride > 1 and strided is None:
            raise ArgumentError(f"stride {stride} needs a depthwise convolution; all three kernel sizes are 0")
        norm = {"bn_eps": bn_eps, "bn_momentum": bn_momentum}
        self.aa: nn.Module | None = None

        def depthwise(name: str, channels: int) -> nn.Module:
            if not sizes[name]:
                return nn.Identity()
            own_stride = 1
            if name == strided:
                self.aa, own_stride = pool_and_stride(anti_alias, channels, stride)
            conv = conv2d(channels, channels, sizes[name], stride=own_stride, padding=padding, groups=channels)
            return ConvBN(conv, **norm)

        self.dw_start = depthwise("dw_start", in_channels)
        self.pw_exp = ConvBN(conv2d(in_channels, mid_channels, 1), **norm)
        self.dw_mid = depthwise("dw_mid", mid_channels)
        self.se = squeeze_excite_or_identity(mid_channels, se_channels, se_act or act, se_gate)
        self.pw_proj = ConvBN(conv2d(mid_channels, out_channels, 1), **norm)
        self.dw_end = depthwise("dw_end", out_channels)
        self.layer_scale = layer_scale(out_channels, layer_scale_init)
        self.drop_path = DropPath(drop_path)
        self._strided = strided

    def forward(self, x: Tensor) -> Tensor:
        return self._run(self._units, x, residual=self.has_residual, drop_path=self.drop_path)

    def _units(self) -> list[Unit]:
        acts = {"dw_start": "identity", "pw_exp": self.act, "dw_mid": self.act}
        units = []
        for name in ("dw_start", "pw_exp", "dw_mid", "pw_proj", "dw_end"):
            module = self._modules[name]
            if is_plain(module, (nn.Identity,)):
                continue
            act = acts.get(name, "identity")
            unit = nested_unit(name, module, act)
            if name == "pw_proj":
                unit.se = gate_of(self.se)
            if name == self._strided:
                unit.pool = self.aa
            units.append(unit)
        if is_plain(self.layer_scale, (LayerScale2d,)):
            units[-1].scale = self.layer_scale.gamma
        elif not is_plain(self.layer_scale, (nn.Identity,)):
            units.append(Unit("layer_scale", self.layer_scale, None, "identity"))
        return units
