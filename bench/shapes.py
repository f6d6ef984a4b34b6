"""The op problems of a network, read from its row in ``effops.arch``."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from effops.arch import Arch, Block, Conv, ConvBNAct, DepthwiseSeparable, SqueezeExcite

from .problems import SAME, DenseConv, DepthwiseConv, PointwiseConv, Problem, SqueezeExciteGate

# Convolutions of a universal inverted residual that are linear wherever they stand.
_LINEAR = {"dw_start.conv", "pw_proj.conv", "dw_end.conv"}


def why_no_op(conv: Conv) -> str | None:
    """Why a convolution is no call of ``effops.ops``, or None."""
    if conv.experts:
        return "its kernel is mixed for every image (CondConv)"
    if conv.groups > 1 and not conv.depthwise:
        return "it has groups of several channels"
    return None


def without_ops(arch: Arch) -> dict[str, str]:
    """The convolutions of a network that :func:`problems` leaves out, by name, and why."""
    reasons = {conv.name: why_no_op(conv) for conv in arch.convs()}
    if arch.fusion:
        fusing = [name for name in reasons if name.startswith("msfa.")]
        reasons |= dict.fromkeys(fusing, "it is part of a fusion of maps, which is no chain of ops")
    return {name: reason for name, reason in reasons.items() if reason}


def _padding(arch: Arch, conv: Conv) -> int | str:
    """SAME at stride 1 is the symmetric padding; naming it so makes equal problems equal."""
    return SAME if arch.padding == SAME and conv.stride > 1 else (conv.kernel_size - 1) // 2


def _convolution(
    arch: Arch,
    conv: Conv,
    size: int,
    act: str,
    *,
    pool: bool = False,
    gated: bool = False,
    residual: bool = False,
) -> Iterator[Problem]:
    """A convolution on a map of this side; nothing for one that is no op."""
    if why_no_op(conv):
        return
    if conv.kernel_size == 1:
        channels = {"in_channels": conv.in_channels, "out_channels": conv.out_channels}
        yield PointwiseConv(size=size, **channels, act=act, gated=gated, residual=residual)
        return
    window = {"kernel_size": conv.kernel_size, "stride": conv.stride, "padding": _padding(arch, conv), "act": act}
    if conv.depthwise:
        yield DepthwiseConv(size=size, channels=conv.in_channels, **window, pool=pool)
    else:
        yield DenseConv(size=size, in_channels=conv.in_channels, out_channels=conv.out_channels, **window)


def _after(arch: Arch, conv: Conv, size: int) -> tuple[int, Problem | None]:
    """The side of the map after a convolution and its anti-aliasing, and the op that the latter is."""
    size = conv.output_size(size, arch.padding)
    if conv.anti_alias is None:
        return size, None
    if conv.anti_alias == "avg":
        return size // 2, None
    window = {"kernel_size": 3, "stride": 2, "padding": 1, "act": "identity", "pool": False}
    return (size + 1) // 2, DepthwiseConv(size=size, channels=conv.out_channels, **window)


def act_after(block: Block, conv: Conv) -> str:
    """The activation after a convolution of a block, which is not one of its squeeze-excite."""
    last = conv == block.convs()[-1]
    if last and isinstance(block, DepthwiseSeparable):
        return block.project_act
    linear = conv.name in _LINEAR or (last and not isinstance(block, ConvBNAct))
    return "identity" if linear else block.act


def _around(names: Sequence[str]) -> tuple[str, str]:
    """The convolutions before and after the squeeze-excite."""
    return names[names.index("se.conv_reduce") - 1], names[names.index("se.conv_expand") + 1]


def _of_block(arch: Arch, block: Block, size: int) -> Iterator[Problem]:
    """The ops of a block of convolutions in a row, some with a squeeze-excite before the projection."""
    convs = [conv for conv in block.convs() if not conv.gating]
    se: SqueezeExcite | None = getattr(block, "se", None)
    # Another norm than batch norm is no part of an op, and what comes after it is none either.
    folded = arch.norm.kind == "batch"
    names = [conv.name for conv in block.convs()]
    # The squeeze-excite reads the mean of what comes before it and gates what the projection after it reads.
    pooled, gating = _around(names) if se else (None, None)
    for conv in convs:
        gated = conv.name == gating
        if gated:
            yield SqueezeExciteGate(channels=conv.in_channels, reduced=se.channels, act=se.act, gate=se.gate)
        yield from _convolution(
            arch,
            conv,
            size,
            act_after(block, conv) if folded else "identity",
            pool=conv.name == pooled and conv.anti_alias is None and folded,
            gated=gated,
            residual=block.residual and conv is convs[-1] and folded,
        )
        size, blur = _after(arch, conv, size)
        if blur:
            yield blur


def _of_attention(arch: Arch, block: Block, size: int) -> Iterator[Problem]:
    """The convolutions around an attention: keys and values work on a map of their own."""
    key_size = size
    for conv in block.convs():
        if not conv.keys:
            yield from _convolution(arch, conv, size, "identity")
            continue
        before = size if conv.kernel_size > 1 else key_size
        yield from _convolution(arch, conv, before, "identity")
        key_size, _ = _after(arch, conv, before)


def problems(arch: Arch, resolution: int | None = None) -> Iterator[Problem]:
    """The ops of a network at a resolution (its own by default), from stem to head, with repetitions.

    Every convolution but those of :func:`without_ops`, and the gates of squeeze-excite; the products of attention,
    the fusion of maps and the classifier are left out.
    """
    size = arch.resolution if resolution is None else resolution
    act = arch.stem.act if arch.norm.kind == "batch" else "identity"
    stem = arch.stem_conv()
    yield from _convolution(arch, stem, size, act)
    size, _ = _after(arch, stem, size)
    for stage in arch.stages:
        for block in stage:
            attends = any(conv.keys for conv in block.convs())
            yield from (_of_attention if attends else _of_block)(arch, block, size)
            for conv in block.convs():
                if not (conv.gating or conv.keys):
                    size, _ = _after(arch, conv, size)
    head = arch.head_conv()
    if head:
        act = "identity" if arch.norm.kind != "batch" and arch.head.norm else arch.head.act
        yield from _convolution(arch, head, 1 if arch.head.pooled else size, act)
