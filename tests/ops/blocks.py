"""Calls of whole blocks of any shape, on random tensors; x is added where its shape allows."""

import torch

from effops.ops.shape import output_size
from effops.ops.spec import ACTIVATIONS, SAME
from effops.ops.table import OPS
from effops.testing import KernelSample

_RELU, _SILU = ACTIVATIONS.index("relu"), ACTIVATIONS.index("silu")


def fused(n, c, size, hidden, out, kernel=3, stride=1, pad=1, dilation=1, act=_SILU, project_act=0, biases=True):
    weights = torch.randn(hidden, c, kernel, kernel) / (kernel * c**0.5), torch.randn(out, hidden, 1, 1) / hidden**0.5
    bias = (torch.randn(hidden), torch.randn(out)) if biases else (None, None)
    shape = tuple(output_size(s, kernel, stride, pad, dilation) for s in size)
    geometry = (stride, stride, pad, pad, dilation, dilation)
    residual = (c, *size) == (out, *shape)
    args = (torch.randn(n, c, *size), weights[0], bias[0], *geometry, weights[1], bias[1], residual, act, project_act)
    return KernelSample(OPS["fused_mbconv"], f"{n}x{c}-m{hidden}-o{out}-k{kernel}", args)


def block(n, c, size, hidden, out, kernel=3, stride=1, pad=SAME, reduced=0, act=_SILU, gate=0, biases=True):
    weights = torch.randn(hidden, c, 1, 1) / c**0.5, torch.randn(hidden, 1, kernel, kernel) / kernel
    project = torch.randn(out, hidden, 1, 1) / hidden**0.5
    bias = [torch.randn(s) if biases else None for s in (hidden, hidden, out)]
    se = (None,) * 4
    if reduced:
        matrices = torch.randn(reduced, hidden) / hidden**0.5, torch.randn(hidden, reduced)
        se = matrices[0], torch.randn(reduced), matrices[1], torch.randn(hidden)
    shape = tuple(output_size(s, kernel, stride, pad, 1) for s in size)
    geometry = (stride, stride, pad, pad, 1, 1)
    args = (torch.randn(n, c, *size), weights[0], bias[0], weights[1], bias[1], *geometry, *se, project, bias[2])
    residual = (c, *size) == (out, *shape)
    return KernelSample(OPS["mbconv"], f"{n}x{c}-m{hidden}-o{out}-k{kernel}", (*args, residual, act, _RELU, gate, 0))
