"""Validation of what users pass: each check returns the schema's arguments or raises an ArgumentError that teaches.

The kernels trust these checks; only what would corrupt memory is checked again below.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ..errors import ArgumentError
from .shape import output_size
from .spec import ACTIVATIONS, GATES, SAME

_ACTIVATION_CODES = {name: code for code, name in enumerate(ACTIVATIONS)}
_GATE_CODES = {name: code for code, name in enumerate(GATES)}


def text_of(tensor: Tensor) -> str:
    """A tensor's shape for a message."""
    return str(tuple(tensor.shape))


def _code(codes: dict[str, int], argument: str, value: Any) -> int:
    try:
        return codes[value]
    except (KeyError, TypeError):
        raise ArgumentError(f"{argument} must be one of {', '.join(codes)}; got {value!r}") from None


def activation_code(act: str) -> int:
    """Code of an activation's name."""
    return _code(_ACTIVATION_CODES, "act", act)


def gate_code(gate: str) -> int:
    """Code of a gate function's name."""
    return _code(_GATE_CODES, "gate", gate)


def as_pair(argument: str, value: int | Sequence[int], least: int) -> tuple[int, int]:
    """(height, width) of an int or a pair."""
    pair = (value, value) if isinstance(value, int) else value
    if not isinstance(pair, (tuple, list)) or len(pair) != 2 or not all(isinstance(one, int) for one in pair):
        raise ArgumentError(f"{argument} must be an int or a pair (height, width) of ints; got {value!r}")
    if pair[0] < least or pair[1] < least:
        raise ArgumentError(f"{argument} must be at least {least}; got {value!r}")
    return pair[0], pair[1]


def as_padding(value: int | str | Sequence[int]) -> tuple[int, int]:
    """Zeros on each side, (height, width), or SAME for both."""
    if isinstance(value, str):
        if value != "same":
            raise ArgumentError(f"padding must be an int, a pair of ints or 'same' (TensorFlow's SAME); got {value!r}")
        return SAME, SAME
    return as_pair("padding", value, 0)


def image(x: Tensor, argument: str = "x") -> None:
    """Require a floating NCHW tensor."""
    if not isinstance(x, Tensor):
        raise ArgumentError(f"{argument} must be a torch.Tensor; got {type(x).__name__}")
    if x.dim() != 4:
        raise ArgumentError(
            f"{argument} must have 4 dimensions (N, C, H, W); got shape {text_of(x)}. "
            "A single image needs a batch dimension: x.unsqueeze(0)"
        )
    if x.shape[1] == 0:
        raise ArgumentError(f"{argument} must have at least one channel; got shape {text_of(x)}")
    floating(x, argument)


def floating(x: Tensor, argument: str) -> None:
    """Require a floating dtype."""
    if not x.is_floating_point():
        raise ArgumentError(
            f"{argument} must be float32, float16, bfloat16 or float64; got {x.dtype}. "
            f"Convert it first: {argument}.float()"
        )


def beside(tensor: Tensor, argument: str, x: Tensor, dtypes: tuple[torch.dtype, ...], owner: str = "x") -> None:
    """Require a tensor on x's device with one of these dtypes."""
    if not isinstance(tensor, Tensor):
        raise ArgumentError(f"{argument} must be a torch.Tensor; got {type(tensor).__name__}")
    if tensor.device != x.device:
        raise ArgumentError(
            f"{argument} must be on the device of {owner} ({x.device}); got {tensor.device}. "
            f"Move one of them with .to({str(x.device)!r})"
        )
    if tensor.dtype not in dtypes:
        expected = " or ".join(str(d) for d in dtypes)
        raise ArgumentError(
            f"{argument} must be {expected} beside {owner} of {x.dtype}; got {tensor.dtype}. Convert it with .to()"
        )


def vector(bias: Tensor | None, argument: str, size: int, x: Tensor) -> None:
    """A bias may stay in float32 beside low-precision activations: it is added to the float32 accumulator."""
    if bias is None:
        return
    beside(
        bias,
        argument,
        x,
        (x.dtype,) if x.dtype in (torch.float32, torch.float64) else (x.dtype, torch.float32),
    )
    if bias.dim() != 1 or bias.shape[0] != size:
        raise ArgumentError(f"{argument} must have shape ({size},), one value an output channel; got {text_of(bias)}")


def conv(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: int | Sequence[int],
    padding: int | str | Sequence[int],
    dilation: int | Sequence[int],
    act: str,
    *,
    depthwise: bool,
) -> tuple:
    """Arguments of conv_act and depthwise_conv_act."""
    image(x)
    beside(weight, "weight", x, (x.dtype,))
    filters(weight, x.shape[1], depthwise=depthwise)
    vector(bias, "bias", weight.shape[0], x)
    return (x, weight, bias, *geometry(x.shape[2:], weight.shape, stride, padding, dilation), activation_code(act))


def filters(weight: Tensor, channels: int, *, depthwise: bool, argument: str = "weight") -> None:
    """Require a convolution weight for an input of this many channels."""
    good = weight.dim() == 4 and weight.shape[0] and weight.shape[1] == (1 if depthwise else channels)
    if not good or (depthwise and weight.shape[0] != channels):
        expected = f"({channels}, 1, kh, kw)" if depthwise else f"(out_channels, {channels}, kh, kw)"
        raise ArgumentError(
            f"{argument} must have shape {expected} for an input with {channels} channels; got {text_of(weight)}"
        )


def geometry(
    sizes: Sequence[int],
    filters: Sequence[int],
    stride: int | Sequence[int],
    padding: int | str | Sequence[int],
    dilation: int | Sequence[int],
) -> tuple[int, int, int, int, int, int]:
    """Stride, padding and dilation as the schemas have them, for an image of (height, width) and a weight's shape."""
    stride, dilation, padding = as_pair("stride", stride, 1), as_pair("dilation", dilation, 1), as_padding(padding)
    for axis, size in enumerate(sizes):
        reach = dilation[axis] * (filters[2 + axis] - 1) + 1
        zeros = 2 * padding[axis] if padding[axis] != SAME else reach
        if reach < 1 or size + zeros < reach or (size < 1 and padding[axis] == SAME):
            raise ArgumentError(
                f"the output would be empty: x has {('height', 'width')[axis]} {size}, the kernel reaches over {reach} "
                f"and padding adds {2 * max(padding[axis], 0)}. Give a larger input or more padding"
            )
    return (*stride, *padding, *dilation)


def pointwise(
    x: Tensor, weight: Tensor, bias: Tensor | None, gate: Tensor | None, residual: Tensor | None, act: str
) -> tuple:
    """Arguments of pointwise_conv_act."""
    image(x)
    beside(weight, "weight", x, (x.dtype,))
    channels = x.shape[1]
    matrix(weight, "weight", "out_channels", channels)
    vector(bias, "bias", weight.shape[0], x)
    if gate is not None:
        _pooled(gate, "gate", x)
    if residual is not None:
        beside(residual, "residual", x, (x.dtype,))
        expected = (x.shape[0], weight.shape[0], x.shape[2], x.shape[3])
        if residual.shape != expected:
            raise ArgumentError(f"residual must have the output's shape {tuple(expected)}; got {text_of(residual)}")
    return x, weight, bias, gate, residual, activation_code(act)


def matrix(weight: Tensor, argument: str, rows: int | str, columns: int | str) -> None:
    """Require a (rows, columns) or (rows, columns, 1, 1) weight; a name stands for any number."""
    dims = weight.dim()
    good = weight.numel() and (dims == 2 or (dims == 4 and weight.shape[2] == 1 and weight.shape[3] == 1))
    for axis, expected in ((0, rows), (1, columns)):
        good = good and (isinstance(expected, str) or weight.shape[axis] == expected)
    if not good:
        raise ArgumentError(
            f"{argument} must have shape ({rows}, {columns}) or ({rows}, {columns}, 1, 1); got {text_of(weight)}"
        )


def _pooled(pooled: Tensor, argument: str, x: Tensor) -> None:
    """Require one accumulated value an image and channel of x."""
    beside(pooled, argument, x, (torch.float64 if x.dtype == torch.float64 else torch.float32,))
    if pooled.shape != x.shape[:2]:
        raise ArgumentError(f"{argument} must have shape (N, C) = {tuple(x.shape[:2])}; got {text_of(pooled)}")


def se_weights(
    owner: Tensor,
    name: str,
    channels: int,
    reduce_weight: Tensor,
    reduce_bias: Tensor | None,
    expand_weight: Tensor,
    expand_bias: Tensor | None,
) -> None:
    """Require the four tensors of a squeeze-excite for this many channels."""
    dtypes = (torch.float64,) if owner.dtype == torch.float64 else (torch.float32, torch.bfloat16, torch.float16)
    for argument, tensor in (("reduce_weight", reduce_weight), ("expand_weight", expand_weight)):
        beside(tensor, argument, owner, dtypes, name)
    matrix(reduce_weight, "reduce_weight", "reduced", channels)
    matrix(expand_weight, "expand_weight", channels, reduce_weight.shape[0])
    sizes = (("reduce_bias", reduce_bias, reduce_weight.shape[0]), ("expand_bias", expand_bias, channels))
    for argument, tensor, size in sizes:
        if tensor is None:
            continue
        beside(tensor, argument, owner, dtypes, name)
        if tensor.dim() != 1 or tensor.shape[0] != size:
            raise ArgumentError(f"{argument} must have shape ({size},); got {text_of(tensor)}")


def se_gate(
    pooled: Tensor,
    reduce_weight: Tensor,
    reduce_bias: Tensor | None,
    expand_weight: Tensor,
    expand_bias: Tensor | None,
    act: str,
    gate: str,
) -> tuple:
    """Arguments of se_gate."""
    if not isinstance(pooled, Tensor) or pooled.dim() != 2:
        got = text_of(pooled) if isinstance(pooled, Tensor) else type(pooled).__name__
        raise ArgumentError(f"pooled must be a tensor of shape (N, C), the spatial mean of an image; got {got}")
    if pooled.dtype not in (torch.float32, torch.float64):
        raise ArgumentError(
            f"pooled must be float32 (squeeze-excite is computed in float32); got {pooled.dtype}. Use pooled.float()"
        )
    se_weights(pooled, "pooled", pooled.shape[1], reduce_weight, reduce_bias, expand_weight, expand_bias)
    return (
        pooled,
        reduce_weight,
        reduce_bias,
        expand_weight,
        expand_bias,
        activation_code(act),
        gate_code(gate),
    )


def squeeze_excite(
    x: Tensor,
    reduce_weight: Tensor,
    reduce_bias: Tensor | None,
    expand_weight: Tensor,
    expand_bias: Tensor | None,
    pooled: Tensor | None,
    act: str,
    gate: str,
) -> tuple:
    """Arguments of squeeze_excite."""
    image(x)
    if pooled is not None:
        _pooled(pooled, "pooled", x)
    elif x.shape[2] == 0 or x.shape[3] == 0:
        raise ArgumentError(f"x must have at least one pixel to take a mean over; got shape {text_of(x)}")
    se_weights(x, "x", x.shape[1], reduce_weight, reduce_bias, expand_weight, expand_bias)
    codes = activation_code(act), gate_code(gate)
    return (x, reduce_weight, reduce_bias, expand_weight, expand_bias, pooled, *codes)


def weights_and_biases(**pairs: tuple[Tensor, Tensor | None] | None) -> tuple[list, list]:
    """The weights and the biases of pairs; None stands for a pair of nothing."""
    for name, pair in pairs.items():
        if pair is not None and not (isinstance(pair, (tuple, list)) and len(pair) == 2):
            raise ArgumentError(f"{name} must be a pair (weight, bias or None), or None; got {type(pair).__name__}")
    weights, biases = zip(*(pair or (None, None) for pair in pairs.values()), strict=True)
    return list(weights), list(biases)


def mbconv(
    x: Tensor,
    weights: Sequence[Tensor | None],
    biases: Sequence[Tensor | None],
    stride: int | Sequence[int],
    padding: int | str | Sequence[int],
    dilation: int | Sequence[int],
    se: tuple[Tensor | None, ...],
    residual: bool,
    acts: tuple[str, str, str, str],
) -> tuple:
    """Arguments of mbconv, from the weights and biases of expansion, depthwise convolution and projection."""
    image(x)
    channels = hidden = x.shape[1]
    names = ("expand", "depthwise", "project")
    for name, weight in zip(names, weights, strict=True):
        if weight is not None or name != "expand":
            beside(weight, f"{name} weight", x, (x.dtype,))
    expand, depthwise, project = weights
    if expand is not None:
        matrix(expand, "expand weight", "hidden", channels)
        hidden = expand.shape[0]
    filters(depthwise, hidden, depthwise=True)
    matrix(project, "project weight", "out_channels", hidden)
    for name, bias, size in zip(names, biases, (hidden, hidden, project.shape[0]), strict=True):
        vector(bias, f"{name} bias", size, x)
    if se[0] is not None:
        se_weights(x, "x", hidden, *se)
    shape = geometry(x.shape[2:], depthwise.shape, stride, padding, dilation)
    if residual:
        _keeps_the_shape(x, _sizes_after(x.shape[2:], depthwise, shape), project)
    pairs = zip(weights, biases, strict=True)
    (expand, expand_bias), (depthwise, depthwise_bias), (project, project_bias) = pairs
    codes = activation_code(acts[0]), activation_code(acts[1]), gate_code(acts[2]), activation_code(acts[3])
    first = (x, expand, expand_bias, depthwise, depthwise_bias, *shape)
    return (*first, *se, project, project_bias, bool(residual), *codes)


def fused_mbconv(
    x: Tensor,
    weights: Sequence[Tensor],
    biases: Sequence[Tensor | None],
    stride: int | Sequence[int],
    padding: int | str | Sequence[int],
    dilation: int | Sequence[int],
    residual: bool,
    acts: tuple[str, str],
) -> tuple:
    """Arguments of fused_mbconv, from the weights and biases of expansion and projection."""
    image(x)
    expand, project = weights
    beside(expand, "expand weight", x, (x.dtype,))
    beside(project, "project weight", x, (x.dtype,))
    filters(expand, x.shape[1], depthwise=False)
    matrix(project, "project weight", "out_channels", expand.shape[0])
    for name, bias, weight in zip(("expand", "project"), biases, weights, strict=True):
        vector(bias, f"{name} bias", weight.shape[0], x)
    shape = geometry(x.shape[2:], expand.shape, stride, padding, dilation)
    if residual:
        _keeps_the_shape(x, _sizes_after(x.shape[2:], expand, shape), project)
    codes = activation_code(acts[0]), activation_code(acts[1])
    return (x, expand, biases[0], *shape, project, biases[1], bool(residual), *codes)


def uib(
    x: Tensor,
    weights: Sequence[Tensor | None],
    biases: Sequence[Tensor | None],
    stride: int | Sequence[int],
    padding: int | str | Sequence[int] | None,
    residual: bool,
    act: str,
) -> list[dict[str, Any]]:
    """Stride and padding of the two depthwise convolutions of uib, from what it is given."""
    image(x)
    activation_code(act)
    names = ("start", "expand", "middle", "project")
    start, expand, middle, project = weights
    for name, weight in zip(names, weights, strict=True):
        if weight is not None or name in ("expand", "project"):
            beside(weight, f"{name} weight", x, (x.dtype,))
    matrix(expand, "expand weight", "hidden", x.shape[1])
    matrix(project, "project weight", "out_channels", expand.shape[0])
    stride = as_pair("stride", stride, 1)
    if stride != (1, 1) and start is None and middle is None:
        raise ArgumentError(f"stride {stride} needs a depthwise convolution; start and middle are both None")
    sizes, found = x.shape[2:], []
    of_start = "start", start, x.shape[1], stride if middle is None else 1
    for name, weight, channels, own in (of_start, ("middle", middle, expand.shape[0], stride)):
        if weight is not None:
            filters(weight, channels, depthwise=True, argument=f"{name} weight")
            zeros = [(size - 1) // 2 for size in weight.shape[2:]] if padding is None else padding
            shape = geometry(sizes, weight.shape, own, zeros, 1)
            sizes = _sizes_after(sizes, weight, shape)
        found.append({} if weight is None else {"stride": own, "padding": zeros})
    for name, bias, weight in zip(names, biases, weights, strict=True):
        vector(bias, f"{name} bias", 0 if weight is None else weight.shape[0], x)
    if residual:
        _keeps_the_shape(x, sizes, project)
    return found


def _sizes_after(sizes: Sequence[int], weight: Tensor, shape: tuple) -> list[int]:
    """(height, width) behind a convolution with these weights and this geometry."""
    return [output_size(sizes[i], weight.shape[2 + i], shape[i], shape[2 + i], shape[4 + i]) for i in (0, 1)]


def _keeps_the_shape(x: Tensor, sizes: Sequence[int], project: Tensor) -> None:
    """What a residual needs of a block that makes images of these sizes."""
    if (project.shape[0], *sizes) != tuple(x.shape[1:]):
        raise ArgumentError(
            f"residual needs an output of x's shape {text_of(x)}; this block gives "
            f"{(x.shape[0], project.shape[0], *sizes)}. Use residual=False for it"
        )
