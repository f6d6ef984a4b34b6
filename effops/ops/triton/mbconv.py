"""Inverted residual in two kernels: expansion with depthwise convolution, then the gate if any, then the projection.

The first kernel never writes the expanded tensor. Bytes: x once from memory (from L2 once a block of channels, from L1
once a column of taps), the depthwise output once, with a gate also partial sums for its mean, weights from L2.

Arithmetic: Triton cannot index a tile in registers, so that an expanded value that several columns of taps read is
computed once for each of them. A program holds ROWS rows of outputs, and every row of inputs that they read is expanded
kernel_w times: in all kernel_w / stride_w * ((ROWS - 1) * stride_h + kernel_h) / (ROWS * stride_h) times the products
and activations of a pointwise kernel, with what tiles leave idle on top. With two rows that is 1.9 for 3x3 with stride
2, 4.4 for 5x5 with stride 2, and 6 for 3x3 with stride 1; four rows (1.7 for the first) spill registers on some
architectures. ``pays`` weighs it against the bytes; else the expansion and the depthwise convolution are two kernels.
"""

from __future__ import annotations

from dataclasses import dataclass

import triton
import triton.language as tl
from torch import Tensor

from .. import fake
from ..shape import pad_before_after
from ..spec import ACTIVATIONS
from .activation import activate
from .depthwise import depthwise_conv_act, depthwise_conv_act_pool, held_taps
from .gemm import strides
from .launch import config, dense, dtype_bucket, launch, power_of_2, rows, units
from .pointwise import pointwise_conv_act
from .pool import mean_of_sums, partial_sums
from .squeeze_excite import se_gate

# The expansion's input channels are one block of its product; more are no longer cheap to multiply again.
_MOST_IN, _LEAST = 64, 16
# The first kernel is unrolled over rows and taps: no more products than this.
_MOST_PRODUCTS = 36
# An expanded tensor smaller than this stays in L2, where two kernels' bytes cost little.
_CACHE = 32 << 20
# Instructions that an H100's multiprocessors issue (128 lanes) while memory moves a byte: 29e12 a second over 3.35e12.
_INSTRUCTIONS_A_BYTE = 8
# Of one expanded value: bias, mask, address; its activation, where an exponential counts for 8; a multiply-add on
# tensor cores at half of their peak.
_AROUND = 4
_ACTIVATION = {"identity": 0, "relu": 2, "relu6": 3, "silu": 20, "hardswish": 5, "gelu": 30}
_TENSOR_CORE = 1 / 8


@triton.jit
def _expand_depthwise(
    x,
    expand_weight,
    expand_bias,
    weight,
    bias,
    y,
    partials,
    in_units,
    hidden_units,
    k_units,
    n_units,
    height,
    width,
    out_height,
    out_width,
    pad_top,
    pad_left,
    tiles_m,
    tiles_c,
    IN_UNIT: tl.constexpr,
    HIDDEN_UNIT: tl.constexpr,
    K_UNIT: tl.constexpr,
    N_UNIT: tl.constexpr,
    KERNEL_H: tl.constexpr,
    KERNEL_W: tl.constexpr,
    STRIDE_H: tl.constexpr,
    STRIDE_W: tl.constexpr,
    DILATION_H: tl.constexpr,
    DILATION_W: tl.constexpr,
    ACT: tl.constexpr,
    ROWS: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_C: tl.constexpr,
    BLOCK_K: tl.constexpr,
):
    in_channels = in_units * IN_UNIT
    channels = hidden_units * HIDDEN_UNIT
    program = tl.program_id(0)
    tile = program // tiles_c % tiles_m
    n = (program // (tiles_c * tiles_m)).to(tl.int64)
    c = program % tiles_c * BLOCK_C + tl.arange(0, BLOCK_C)
    c_mask = c < channels
    k = tl.arange(0, BLOCK_K)
    k_mask = k < in_channels

    # A lane is a column of a strip of ROWS rows of outputs; lanes go from strip to strip through the image.
    lane = tile * BLOCK_M + tl.arange(0, BLOCK_M)
    out_row = lane // out_width * ROWS
    out_column = lane % out_width
    row = out_row * STRIDE_H - pad_top
    column = out_column * STRIDE_W - pad_left
    row_stride = width.to(tl.int64) * in_channels
    window = x + ((n * height + row) * row_stride + column.to(tl.int64) * in_channels)[:, None] + k[None, :]

    place = k[:, None] * (k_units * K_UNIT) + c[None, :] * (n_units * N_UNIT)
    matrix = tl.load(expand_weight + place, k_mask[:, None] & c_mask[None, :], 0.0)
    expand_shift = tl.zeros([BLOCK_C], tl.float32)
    if expand_bias is not None:
        expand_shift += tl.load(expand_bias + c, c_mask, 0.0).to(tl.float32)
    shift = tl.zeros([BLOCK_C], tl.float32)
    if bias is not None:
        shift += tl.load(bias + c, c_mask, 0.0).to(tl.float32)
    taps = held_taps(weight, c, channels, c_mask, KERNEL_H * KERNEL_W)
    sums = ()
    for _ in tl.static_range(ROWS):
        sums = sums + (tl.zeros([BLOCK_M, BLOCK_C], tl.float32) + shift[None, :],)

    # Indices of tuples are expressions here: a variable would be a tensor in the interpreter.
    for below in tl.static_range((ROWS - 1) * STRIDE_H + (KERNEL_H - 1) * DILATION_H + 1):
        for kx in tl.static_range(KERNEL_W):
            inside = (row + below >= 0) & (row + below < height) & (out_row < out_height)
            inside &= (column + kx * DILATION_W >= 0) & (column + kx * DILATION_W < width)
            at = window + (below * row_stride + kx * DILATION_W * in_channels)
            a = tl.load(at, inside[:, None] & k_mask[None, :], 0.0)
            hidden = tl.dot(a, matrix, input_precision="ieee") + expand_shift[None, :]
            # Around the image the depthwise convolution reads zeros, not the activated bias.
            hidden = tl.where(inside[:, None], activate(hidden, ACT), 0.0)
            updated = ()
            for r in tl.static_range(ROWS):
                total = sums[r]
                # Which row of taps lies between this input row and output row r, if any.
                if below >= r * STRIDE_H and (below - r * STRIDE_H) % DILATION_H == 0:
                    if below - r * STRIDE_H < KERNEL_H * DILATION_H:
                        total += hidden * taps[(below - r * STRIDE_H) // DILATION_H * KERNEL_W + kx]
                updated = updated + (total,)
            sums = updated

    pooled = tl.zeros([BLOCK_M, BLOCK_C], tl.float32)
    first = y + ((n * out_height + out_row) * out_width + out_column)[:, None] * channels + c[None, :]
    for r in tl.static_range(ROWS):
        value = activate(sums[r], ACT)
        stored = (out_row + r < out_height)[:, None] & c_mask[None, :]
        tl.store(first + r * (out_width.to(tl.int64) * channels), value.to(y.dtype.element_ty), stored)
        if partials is not None:
            pooled += tl.where(stored, value, 0.0)
    if partials is not None:
        tl.store(partials + (n * tiles_m + tile) * channels + c, tl.sum(pooled, 0), c_mask)


@dataclass(frozen=True)
class Tiling:
    """How the first kernel splits an image: strips of ROWS rows of outputs, their columns in blocks, the channels.

    Attributes:
        tiles_m, tiles_c: blocks of columns, and of channels.
        products: that a program makes of its input rows and columns of taps.
        blocks: the launch configuration.
    """

    tiles_m: int
    tiles_c: int
    products: int
    blocks: dict[str, int]

    def recomputed(self, image: tuple[int, int], channels: int) -> float:
        """How often an expanded value is computed on average, idle lanes counted, for x's (height, width)."""
        computed = self.tiles_m * self.blocks["BLOCK_M"] * self.products * self.tiles_c * self.blocks["BLOCK_C"]
        return computed / max(1, image[0] * image[1] * channels)


def tiling(
    chosen: dict[str, int],
    in_channels: int,
    channels: int,
    out: tuple[int, int],
    reach: int,
    kernel_w: int,
    stride_h: int,
) -> Tiling | None:
    """How the first kernel runs a shape, or None where it cannot.

    Args:
        chosen: a row of ``configs/mbconv.json``.
        in_channels: before the expansion.
        channels: after it.
        out: (height, width) of the depthwise output.
        reach: rows from the first to the last that an output reads.
        kernel_w: columns of taps.
        stride_h: rows of inputs between rows of outputs.
    """
    rows_held = max(1, min(chosen["ROWS"], out[0]))
    products = ((rows_held - 1) * stride_h + reach) * kernel_w
    if in_channels > _MOST_IN or products > _MOST_PRODUCTS:
        return None
    strips = -(-out[0] // rows_held)
    block_m = max(_LEAST, min(chosen["BLOCK_M"], power_of_2(strips * out[1])))
    block_c = max(_LEAST, min(chosen["BLOCK_C"], power_of_2(channels)))
    blocks = {
        "ROWS": rows_held,
        "BLOCK_M": block_m,
        "BLOCK_C": block_c,
        "BLOCK_K": max(_LEAST, power_of_2(in_channels)),
        "num_warps": chosen["num_warps"],
    }
    return Tiling(-(-strips * out[1] // block_m), -(-channels // block_c), products, blocks)


def pays(recomputed: float, value_bytes: int, values: int, channels: tuple[int, int], act: int) -> bool:
    """Whether the expanded tensor's way through memory costs more than computing its values again and again.

    A rule of arithmetic, not yet of measurement: for every expanded value two kernels move value_bytes twice, and the
    one kernel computes it ``recomputed`` times instead of once.

    Args:
        recomputed: see :meth:`Tiling.recomputed`.
        value_bytes: of one value of an image.
        values: of the expanded tensor.
        channels: of the block's input, so many multiply-adds has a value, and of the expanded tensor.
        act: code of its activation.
    """
    product = max(_LEAST, power_of_2(channels[0])) * (_TENSOR_CORE if value_bytes == 2 else 1.0)
    instructions = (recomputed - 1) * (_AROUND + _ACTIVATION[ACTIVATIONS[act]] + product)
    # Channels that no network has are loaded under masks, which spill registers on sm_100.
    whole = all(count % 8 == 0 for count in channels)
    return whole and values * value_bytes > _CACHE and instructions < 2 * value_bytes * _INSTRUCTIONS_A_BYTE


def _expanded_depthwise(
    x: Tensor,
    expand: tuple[Tensor, Tensor | None],
    depthwise: tuple[Tensor, Tensor | None],
    geometry: tuple[int, ...],
    act: int,
    pool: bool,
) -> tuple[Tensor, Tensor | None]:
    """act(dwconv(act(W1 x + b1)) + b2), and its spatial mean where asked for."""
    (expand_weight, expand_bias), (weight, bias) = expand, depthwise
    stride, padding, dilation = geometry[:2], geometry[2:4], geometry[4:]
    y = fake.depthwise_conv_act(x, weight, bias, *geometry, act)
    n, in_channels, *image = x.shape
    channels, out, kernel = weight.shape[0], y.shape[2:], weight.shape[2:]
    bucket = f"{dtype_bucket(x)}-k{kernel[0]}" if kernel[0] == kernel[1] else "any"
    reach = (kernel[0] - 1) * dilation[0] + 1
    split = tiling(config("mbconv", x, bucket), in_channels, channels, out, reach, kernel[1], stride[0])
    values = n * channels * image[0] * image[1]
    held = in_channels, channels
    if split is None or not pays(split.recomputed(image, channels), x.element_size(), values, held, act):
        h = pointwise_conv_act(x, expand_weight, expand_bias, None, None, act)
        return _depthwise(h, weight, bias, geometry, act, pool)
    pads = [pad_before_after(image[i], kernel[i], stride[i], padding[i], dilation[i])[0] for i in (0, 1)]
    partials = partial_sums(y, split.tiles_m) if pool else None
    in_count, in_unit = units(in_channels)
    hidden_count, hidden_unit = units(channels)
    k_count, n_count, k_unit, n_unit = strides(expand_weight.stride(1), expand_weight.stride(0))
    launch(
        _expand_depthwise,
        (n * split.tiles_m * split.tiles_c,),
        rows(x),
        expand_weight,
        dense(expand_bias),
        weight.permute(2, 3, 1, 0).contiguous(),
        dense(bias),
        y,
        partials,
        in_count,
        hidden_count,
        k_count,
        n_count,
        *image,
        *out,
        *pads,
        split.tiles_m,
        split.tiles_c,
        IN_UNIT=in_unit,
        HIDDEN_UNIT=hidden_unit,
        K_UNIT=k_unit,
        N_UNIT=n_unit,
        KERNEL_H=kernel[0],
        KERNEL_W=kernel[1],
        STRIDE_H=stride[0],
        STRIDE_W=stride[1],
        DILATION_H=dilation[0],
        DILATION_W=dilation[1],
        ACT=act,
        **split.blocks,
    )
    return y, None if partials is None else mean_of_sums(partials, out[0] * out[1])


def _depthwise(
    x: Tensor, weight: Tensor, bias: Tensor | None, geometry: tuple[int, ...], act: int, pool: bool
) -> tuple[Tensor, Tensor | None]:
    if pool:
        return depthwise_conv_act_pool(x, weight, bias, *geometry, act)
    return depthwise_conv_act(x, weight, bias, *geometry, act), None


def mbconv(
    x: Tensor,
    expand_weight: Tensor | None,
    expand_bias: Tensor | None,
    depthwise_weight: Tensor,
    depthwise_bias: Tensor | None,
    stride_h: int,
    stride_w: int,
    pad_h: int,
    pad_w: int,
    dilation_h: int,
    dilation_w: int,
    reduce_weight: Tensor | None,
    reduce_bias: Tensor | None,
    excite_weight: Tensor | None,
    excite_bias: Tensor | None,
    project_weight: Tensor,
    project_bias: Tensor | None,
    residual: bool,
    act: int,
    se_act: int,
    gate: int,
    project_act: int,
) -> Tensor:
    geometry = (stride_h, stride_w, pad_h, pad_w, dilation_h, dilation_w)
    depthwise = (depthwise_weight, depthwise_bias)
    pool = reduce_weight is not None
    if expand_weight is None:
        d, pooled = _depthwise(x, *depthwise, geometry, act, pool)
    else:
        d, pooled = _expanded_depthwise(x, (expand_weight, expand_bias), depthwise, geometry, act, pool)
    scale = None
    if pooled is not None:
        scale = se_gate(pooled, reduce_weight, reduce_bias, excite_weight, excite_bias, se_act, gate)
    return pointwise_conv_act(d, project_weight, project_bias, scale, x if residual else None, project_act)
