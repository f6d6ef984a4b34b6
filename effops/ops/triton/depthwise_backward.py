"""The backward of a depthwise convolution in training: one pass for both gradients, one for the sums below it."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from .. import fake_training
from ..shape import pad_before_after
from .launch import config, dense, dtype_bucket, launch, power_of_2, rows, units
from .norm import batch_norm_grad_sums
from .parts import channel_tile, sum_parts
from .view import image_of, load_affine, load_coef, load_image_tile, load_input_grad, load_view


@triton.jit
def backward_kernel(
    grad,
    u,
    coef,
    u_gate,
    pool_grad,
    x,
    affine,
    weight,
    dx,
    found,
    count,
    pixels,
    height,
    width,
    out_height,
    out_width,
    pad_top,
    pad_left,
    UNIT: tl.constexpr,
    KERNEL_H: tl.constexpr,
    KERNEL_W: tl.constexpr,
    STRIDE_H: tl.constexpr,
    STRIDE_W: tl.constexpr,
    DILATION_H: tl.constexpr,
    DILATION_W: tl.constexpr,
    U_ACT: tl.constexpr,
    ACT: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_C: tl.constexpr,
):
    # A program takes pixels of x and, for every tap, the du of the output that the tap takes from each pixel: both
    # gradients need it. Bytes: grad, u and x once (what taps and tiles share comes from L1 and L2), dx written once,
    # parts * kernel_h * kernel_w * C * 4 written. 2 multiply-adds a tap and pixel, and du for it: an activation's slope
    # and eight operations. Loops over taps are not unrolled: the addresses alone would fill the registers.
    channels = count * UNIT
    channel_tiles = tl.cdiv(channels, BLOCK_C)
    c = (tl.program_id(0) % channel_tiles) * BLOCK_C + tl.arange(0, BLOCK_C)
    inside = c < channels
    part = (tl.program_id(0) // channel_tiles).to(tl.int64)
    first = part * BLOCK_M
    pixel = first + tl.arange(0, BLOCK_M)
    area = height * width
    image = image_of(first, area, BLOCK_M)
    place = (pixel - image * area).to(tl.int32)
    there = (pixel < pixels)[:, None] & inside[None, :]
    coefs = load_coef(coef, c, inside, channels)
    factor = load_image_tile(u_gate, image, c, there, channels)
    addend = load_image_tile(pool_grad, image, c, there, channels)
    if found is not None:
        vectors = load_affine(affine, c, inside, channels)
        value = load_view(x, pixel[:, None] * channels + c[None, :], there, vectors, ACT)
    total = tl.zeros((BLOCK_M, BLOCK_C), tl.float32)
    for ky in range(KERNEL_H):
        row = place // width + pad_top - ky * DILATION_H
        out_row = row // STRIDE_H
        row_there = (row >= 0) & (out_row * STRIDE_H == row) & (out_row < out_height)
        for kx in range(KERNEL_W):
            column = place % width + pad_left - kx * DILATION_W
            out_column = column // STRIDE_W
            taken = row_there & (column >= 0) & (out_column * STRIDE_W == column) & (out_column < out_width)
            mask = there & taken[:, None]
            at = ((image * out_height + out_row) * out_width + out_column)[:, None] * channels + c[None, :]
            du = load_input_grad(grad, u, at, mask, coefs, factor, addend, U_ACT)
            du = tl.where(mask, du, 0.0)
            tap = ky * KERNEL_W + kx
            if dx is not None:
                total += du * tl.load(weight + tap * channels + c, mask=inside, other=0.0).to(tl.float32)[None, :]
            if found is not None:
                to = found + (part * (KERNEL_H * KERNEL_W) + tap) * channels + c
                tl.store(to, tl.sum(tl.where(mask, du * value, 0.0), 0), mask=inside)
    if dx is not None:
        tl.store(dx + pixel[:, None] * channels + c[None, :], total, mask=there)


def depthwise_conv_backward(
    grad: Tensor,
    u: Tensor | None,
    coef: Tensor | None,
    u_gate: Tensor | None,
    pool_grad: Tensor | None,
    u_act: int,
    x: Tensor,
    affine: Tensor | None,
    act: int,
    weight: Tensor,
    stride_h: int,
    stride_w: int,
    pad_h: int,
    pad_w: int,
    dilation_h: int,
    dilation_w: int,
    need_x: bool,
    need_weight: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """See reference_training."""
    (batch, channels, *size), kernel = x.shape, weight.shape[2:]
    strides, padding, dilations = (stride_h, stride_w), (pad_h, pad_w), (dilation_h, dilation_w)
    pads = [pad_before_after(size[i], kernel[i], strides[i], padding[i], dilations[i])[0] for i in (0, 1)]
    geometry = (*strides, *padding, *dilations)
    grad_view = (grad, u, coef, u_gate, pool_grad, u_act)
    dx, dweight, sums = fake_training.depthwise_conv_backward(
        *grad_view, x, affine, act, weight, *geometry, need_x, need_weight
    )
    pixels = batch * size[0] * size[1]
    if pixels == 0:
        return dx, dweight.zero_(), sums
    chosen = config("depthwise_backward", x, dtype_bucket(x))
    block_c = channel_tile(channels, chosen["BLOCK_C"])
    block_m = min(chosen["VALUES"] // block_c, power_of_2(pixels))
    parts = triton.cdiv(pixels, block_m)
    found = None
    if need_weight:
        found = torch.empty((parts, *kernel, channels), dtype=torch.float32, device=x.device)
    count, unit = units(channels)
    launch(
        backward_kernel,
        (parts * triton.cdiv(channels, block_c),),
        rows(grad),
        None if coef is None else rows(u),
        dense(coef),
        dense(u_gate),
        dense(pool_grad),
        rows(x),
        dense(affine),
        weight.permute(2, 3, 1, 0).contiguous(),
        dx if need_x else None,
        found,
        count,
        pixels,
        *size,
        *grad.shape[2:],
        *pads,
        UNIT=unit,
        KERNEL_H=kernel[0],
        KERNEL_W=kernel[1],
        STRIDE_H=stride_h,
        STRIDE_W=stride_w,
        DILATION_H=dilation_h,
        DILATION_W=dilation_w,
        U_ACT=u_act,
        ACT=act,
        BLOCK_M=block_m,
        BLOCK_C=block_c,
        num_warps=chosen["num_warps"],
    )
    if need_weight:
        dweight.copy_(sum_parts(found).permute(2, 0, 1)[:, None])
    if need_x and affine is not None:
        sums = batch_norm_grad_sums(dx, x, affine, act)
    return dx, dweight, sums
