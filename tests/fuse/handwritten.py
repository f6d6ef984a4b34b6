"""Blocks as people write them, none of them known to effops by name; and some that only look like them."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class StaticSame(nn.Conv2d):
    """Pads as TensorFlow would for one image size, by zeros that are fixed when it is made."""

    def __init__(self, *args: int, image: int, **kwargs: int) -> None:
        super().__init__(*args, **kwargs)
        stride, kernel = self.stride[0], self.kernel_size[0]
        total = max((-(-image // stride) - 1) * stride + kernel - image, 0)
        zeros = (total // 2, total - total // 2)
        self.static_padding = nn.ZeroPad2d(zeros * 2) if total else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(self.static_padding(x), self.weight, self.bias, self.stride, 0, self.dilation, self.groups)


class DynamicSame(nn.Conv2d):
    """Pads as TensorFlow does for the image at hand."""

    def forward(self, x: Tensor) -> Tensor:
        pads = []
        for axis in (1, 0):
            size, stride, kernel = x.shape[2 + axis], self.stride[axis], self.kernel_size[axis]
            total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
            pads += [total // 2, total - total // 2]
        return F.conv2d(F.pad(x, pads), self.weight, self.bias, self.stride, 0, self.dilation, self.groups)


class _SwishFunction(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x * torch.sigmoid(x)

    @staticmethod
    def backward(ctx, grad):
        (x,) = ctx.saved_tensors
        s = torch.sigmoid(x)
        return grad * s * (1 + x * (1 - s))


class FrugalSwish(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return _SwishFunction.apply(x)


class OneActivationBlock(nn.Module):
    """The manner of lukemelas' EfficientNet: one activation for all, gate and drop connect as functions."""

    def __init__(self, inputs: int, outputs: int, *, stride: int = 1, conv: type = DynamicSame, **same: int) -> None:
        super().__init__()
        middle, reduced = 4 * inputs, max(1, inputs // 4)
        self.skips = stride == 1 and inputs == outputs
        self._expand_conv = conv(inputs, middle, 1, bias=False, **same)
        self._bn0 = nn.BatchNorm2d(middle, momentum=0.01, eps=1e-3)
        self._depthwise_conv = conv(middle, middle, 3, stride=stride, groups=middle, bias=False, **same)
        self._bn1 = nn.BatchNorm2d(middle, momentum=0.01, eps=1e-3)
        self._se_reduce = conv(middle, reduced, 1, **same)
        self._se_expand = conv(reduced, middle, 1, **same)
        self._project_conv = conv(middle, outputs, 1, bias=False, **same)
        self._bn2 = nn.BatchNorm2d(outputs, momentum=0.01, eps=1e-3)
        self._swish = FrugalSwish()

    def forward(self, inputs: Tensor, drop_connect_rate: float | None = None) -> Tensor:
        x = self._swish(self._bn0(self._expand_conv(inputs)))
        x = self._swish(self._bn1(self._depthwise_conv(x)))
        pooled = F.adaptive_avg_pool2d(x, 1)
        x = torch.sigmoid(self._se_expand(self._swish(self._se_reduce(pooled)))) * x
        x = self._bn2(self._project_conv(x))
        if self.skips:
            if drop_connect_rate and self.training:
                keep = 1 - drop_connect_rate
                factors = torch.floor(keep + torch.rand([x.shape[0], 1, 1, 1], dtype=x.dtype, device=x.device))
                x = x / keep * factors
            x = x + inputs
        return x


class _Layer(nn.Module):
    def __init__(self, conv: nn.Module, channels: int, act: bool, pad: nn.Module | None = None) -> None:
        super().__init__()
        if pad is not None:
            self.pad = pad
        self.conv = conv
        self.norm = nn.BatchNorm2d(channels)
        if act:
            self.act = nn.SiLU()

    def forward(self, x: Tensor) -> Tensor:
        x = self.pad(x) if hasattr(self, "pad") and self.conv.stride == (2, 2) else x
        x = self.norm(self.conv(x))
        return self.act(x) if hasattr(self, "act") else x


class _Gate(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.squeeze = nn.AdaptiveAvgPool2d(1)
        self.reduce = nn.Conv2d(channels, 4, 1)
        self.expand = nn.Conv2d(4, channels, 1)
        self.act_reduce = nn.SiLU()
        self.act_expand = nn.Sigmoid()

    def forward(self, x: Tensor) -> Tensor:
        return x * self.act_expand(self.expand(self.act_reduce(self.reduce(self.squeeze(x)))))


class LayeredBlock(nn.Module):
    """The manner of transformers' EfficientNet: a module a layer, zeros of their own, dropout for stochastic depth."""

    def __init__(self, inputs: int, outputs: int, *, stride: int = 1, dropout: float = 0.3) -> None:
        super().__init__()
        middle = 4 * inputs
        zeros, padding = nn.ZeroPad2d((0, 1, 0, 1)), "same" if stride == 1 else "valid"
        depthwise = nn.Conv2d(middle, middle, 3, stride, padding, groups=middle, bias=False)
        self.skips = stride == 1 and inputs == outputs
        self.expansion = _Layer(nn.Conv2d(inputs, middle, 1, bias=False), middle, True)
        self.depthwise = _Layer(depthwise, middle, True, zeros)
        self.squeeze_excite = _Gate(middle)
        self.projection = _Layer(nn.Conv2d(middle, outputs, 1, bias=False), outputs, False)
        self.dropout = nn.Dropout(dropout)

    def forward(self, hidden_states: Tensor) -> Tensor:
        x = self.projection(self.squeeze_excite(self.depthwise(self.expansion(hidden_states))))
        return self.dropout(x) + hidden_states if self.skips else x


class LinearGate(nn.Module):
    """Squeeze-excite of fully connected layers, its gate spelt out."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(channels, 4), nn.ReLU(), nn.Linear(4, channels))

    def forward(self, x: Tensor) -> Tensor:
        factor = F.relu6(self.layers(x.mean((2, 3))) + 3) / 6
        return x * factor[:, :, None, None]


class FunctionalBlock(nn.Module):
    """Activations as functions, the gate a module of linear layers."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        middle = 3 * inputs
        self.conv1, self.bn1 = nn.Conv2d(inputs, middle, 1, bias=False), nn.BatchNorm2d(middle)
        self.conv2 = nn.Conv2d(middle, middle, 5, padding=2, groups=middle, bias=False)
        self.bn2, self.gate = nn.BatchNorm2d(middle), LinearGate(middle)
        self.conv3, self.bn3 = nn.Conv2d(middle, outputs, 1, bias=False), nn.BatchNorm2d(outputs)
        self.keep = inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        y = F.hardswish(self.bn1(self.conv1(x)))
        y = F.hardswish(self.bn2(self.conv2(y)))
        y = self.bn3(self.conv3(self.gate(y)))
        return x + y if self.keep else y


class SharedActivationBlock(nn.Module):
    """MobileNetV1's pair of convolutions, with one ReLU module for both."""

    def __init__(self, inputs: int, outputs: int, stride: int = 1) -> None:
        super().__init__()
        self.relu = nn.ReLU6(inplace=True)
        self.depthwise = nn.Conv2d(inputs, inputs, 3, stride, 1, groups=inputs, bias=False)
        self.norm1 = nn.BatchNorm2d(inputs)
        self.pointwise = nn.Conv2d(inputs, outputs, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(outputs)

    def forward(self, x: Tensor) -> Tensor:
        return self.relu(self.norm2(self.pointwise(self.relu(self.norm1(self.depthwise(x))))))


class EdgeBlock(nn.Module):
    """A dense convolution and a projection, biases before the batch norms."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(inputs, 16, 3, padding=1), nn.BatchNorm2d(16), nn.GELU())
        self.project = nn.Conv2d(16, outputs, 1)
        self.norm = nn.BatchNorm2d(outputs)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.norm(self.project(self.body(x)))


FUSED = {
    "one activation, dynamic padding": lambda: OneActivationBlock(8, 8),
    "one activation, stride, dynamic padding": lambda: OneActivationBlock(8, 12, stride=2),
    "one activation, stride, static padding": lambda: OneActivationBlock(8, 12, stride=2, conv=StaticSame, image=16),
    "a module a layer": lambda: LayeredBlock(8, 8),
    "a module a layer, stride, zeros": lambda: LayeredBlock(8, 12, stride=2),
    "functions, linear gate": lambda: FunctionalBlock(8, 8),
    "one ReLU module": lambda: SharedActivationBlock(8, 12, 2),
    "dense, with biases": lambda: EdgeBlock(8, 8),
}


class ScaledResidual(OneActivationBlock):
    """Looks like its base; the branch is halved."""

    def forward(self, inputs: Tensor, drop_connect_rate: float | None = None) -> Tensor:
        return 0.5 * (super().forward(inputs) - inputs) + inputs


class ActivationAfterSum(FunctionalBlock):
    """Looks like its base; an activation follows the addition, as in a ResNet."""

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(super().forward(x))


class ResidualFromInside(SharedActivationBlock):
    """Looks like its base; what is added is not the input, but what the depthwise convolution gave."""

    def forward(self, x: Tensor) -> Tensor:
        y = self.relu(self.norm1(self.depthwise(x)))
        return self.norm2(self.pointwise(y)) + y


class OtherInTraining(SharedActivationBlock):
    """Looks like its base in eval; in training noise is added."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x + 0.1 * torch.randn_like(x) if self.training else x)


class Counting(SharedActivationBlock):
    """Computes what its base does, and counts its calls."""

    calls = 0

    def forward(self, x: Tensor) -> Tensor:
        self.calls = self.calls + 1
        return super().forward(x)


LEFT = {
    "scaled residual": lambda: ScaledResidual(8, 8),
    "activation after the sum": lambda: ActivationAfterSum(8, 8),
    "residual from inside": lambda: ResidualFromInside(8, 8),
    "noise in training": lambda: OtherInTraining(8, 8),
    "side effect": lambda: Counting(8, 8),
}
