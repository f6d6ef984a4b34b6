"""Sizes of convolutions: the one place in Python that knows TensorFlow's SAME padding."""

from __future__ import annotations

from .spec import SAME


def output_size(size: int, kernel: int, stride: int, padding: int, dilation: int) -> int:
    """Output size of a convolution along one axis; ``padding`` is a number or the code ``SAME``."""
    if padding == SAME:
        return (size + stride - 1) // stride
    return (size + 2 * padding - dilation * (kernel - 1) - 1) // stride + 1


def pad_before_after(size: int, kernel: int, stride: int, padding: int, dilation: int) -> tuple[int, int]:
    """Zeros before and after along one axis. SAME puts the odd one after, as TensorFlow does."""
    if padding != SAME:
        return padding, padding
    reach = dilation * (kernel - 1) + 1
    total = (output_size(size, kernel, stride, SAME, dilation) - 1) * stride + reach - size
    # Only then can it be negative; a comparison would tie an exported program to the sizes that it was traced with.
    if reach < stride:
        total = max(total, 0)
    return total // 2, total - total // 2
