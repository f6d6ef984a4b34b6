"""The op problems of a network, read from its row in ``effops.arch``."""

from __future__ import annotations

from collections.abc import Iterator

from effops.arch import Arch, Block, ConvBNAct, DepthwiseSeparable, InvertedResidual, SqueezeExcite

from .problems import SAME, DenseConv, DepthwiseConv, PointwiseConv, Problem, SqueezeExciteGate


def _padding(arch: Arch, kernel_size: int, stride: int) -> int | str:
    """SAME at stride 1 is the symmetric padding; naming it so makes equal problems equal."""
    return SAME if arch.padding == SAME and stride > 1 else (kernel_size - 1) // 2


def _after(size: int, kernel_size: int, stride: int, padding: int | str) -> int:
    if padding == SAME:
        return -(-size // stride)
    return (size + 2 * padding - kernel_size) // stride + 1


def _pointwise(
    size: int, in_channels: int, out_channels: int, act: str, *, gated: bool = False, residual: bool = False
) -> PointwiseConv:
    return PointwiseConv(
        size=size, in_channels=in_channels, out_channels=out_channels, act=act, gated=gated, residual=residual
    )


def _depthwise(
    block: Block, channels: int, size: int, padding: int | str, se: SqueezeExcite | None
) -> Iterator[Problem]:
    """The depthwise convolution of a block, and the gate that its pooled result feeds."""
    yield DepthwiseConv(
        size=size,
        channels=channels,
        kernel_size=block.kernel_size,
        stride=block.stride,
        padding=padding,
        act=block.act,
        pool=se is not None,
    )
    if se is not None:
        yield SqueezeExciteGate(channels=channels, reduced=se.channels, act=se.act, gate=se.gate)


def _of_block(block: Block, size: int, padding: int | str) -> Iterator[Problem]:
    after = _after(size, block.kernel_size, block.stride, padding)
    if isinstance(block, ConvBNAct) and block.kernel_size == 1:
        yield _pointwise(size, block.in_channels, block.out_channels, block.act)
    elif isinstance(block, ConvBNAct):
        yield DenseConv(
            size=size,
            in_channels=block.in_channels,
            out_channels=block.out_channels,
            kernel_size=block.kernel_size,
            stride=block.stride,
            padding=padding,
            act=block.act,
        )
    elif isinstance(block, (DepthwiseSeparable, InvertedResidual)):
        width = block.in_channels
        if isinstance(block, InvertedResidual):
            width = block.mid_channels
            yield _pointwise(size, block.in_channels, width, block.act)
        yield from _depthwise(block, width, size, padding, block.se)
        yield _pointwise(
            after, width, block.out_channels, "identity", gated=block.se is not None, residual=block.residual
        )
    else:
        raise NotImplementedError(f"bench/shapes.py does not know the block {type(block).__name__}")


def problems(arch: Arch, resolution: int | None = None) -> Iterator[Problem]:
    """Every op of a network at a resolution (its own by default), from stem to head, with repetitions."""
    size = arch.resolution if resolution is None else resolution
    stem = arch.stem
    padding = _padding(arch, stem.kernel_size, stem.stride)
    yield DenseConv(
        size=size,
        in_channels=3,
        out_channels=stem.channels,
        kernel_size=stem.kernel_size,
        stride=stem.stride,
        padding=padding,
        act=stem.act,
    )
    size = _after(size, stem.kernel_size, stem.stride, padding)
    for stage in arch.stages:
        for block in stage:
            padding = _padding(arch, block.kernel_size, block.stride)
            yield from _of_block(block, size, padding)
            size = _after(size, block.kernel_size, block.stride, padding)
    head = arch.head
    yield _pointwise(1 if head.pooled else size, arch.trunk_channels, head.channels, head.act)
