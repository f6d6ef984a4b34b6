"""The convolutions that the modules hold: plain torch ones, and one that pads as TensorFlow does."""

from __future__ import annotations

from typing import Literal

import torch.nn.functional as F
from torch import Tensor, nn

from effops.errors import ArgumentError
from effops.ops.shape import pad_before_after
from effops.ops.spec import SAME

Padding = int | Literal["same"] | None


class Conv2dSame(nn.Conv2d):
    """Convolution with TensorFlow's SAME padding for any input size: the odd zero goes after, not before.

    ``torch.nn.Conv2d(padding="same")`` refuses strides; this one takes them. The state is that of
    ``nn.Conv2d``.
    """

    def forward(self, x: Tensor) -> Tensor:
        (top, bottom), (left, right) = (
            pad_before_after(x.shape[2 + i], self.kernel_size[i], self.stride[i], SAME, self.dilation[i])
            for i in (0, 1)
        )
        return super().forward(F.pad(x, (left, right, top, bottom)))


def conv2d(
    in_channels: int,
    out_channels: int,
    kernel_size: int,
    *,
    stride: int = 1,
    padding: Padding = None,
    dilation: int = 1,
    groups: int = 1,
    bias: bool = False,
) -> nn.Conv2d:
    """A convolution with the padding of these networks.

    Args:
        padding: zeros on each side; None for the symmetric padding that keeps the size at stride 1; "same"
            for TensorFlow's SAME.
    """
    if padding is not None and padding != "same" and (not isinstance(padding, int) or padding < 0):
        raise ArgumentError(f"padding must be None, 'same' or an int of at least 0; got {padding!r}")
    reach = dilation * (kernel_size - 1)
    # At stride 1 an even reach makes SAME symmetric.
    if padding == "same" and (stride > 1 or reach % 2):
        return Conv2dSame(
            in_channels, out_channels, kernel_size, stride=stride, dilation=dilation, groups=groups, bias=bias
        )
    zeros = padding if isinstance(padding, int) else reach // 2
    return nn.Conv2d(
        in_channels,
        out_channels,
        kernel_size,
        stride=stride,
        padding=zeros,
        dilation=dilation,
        groups=groups,
        bias=bias,
    )


def op_padding(conv: nn.Conv2d) -> tuple[int, int] | Literal["same"]:
    """The ``padding`` argument that makes an op of ``effops.ops`` pad as this convolution does."""
    if isinstance(conv, Conv2dSame) or conv.padding == "same":
        return "same"  # torch's own "same" is TensorFlow's, for stride 1 alone
    return (0, 0) if conv.padding == "valid" else conv.padding
