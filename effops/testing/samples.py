"""Sample calls of the public ops: shapes of the networks first, then odd ones."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any

import torch
from torch import Tensor

from effops import ops
from effops.ops.spec import ACTIVATIONS, GATES


@dataclass(frozen=True)
class Sample:
    """Arguments of one public op; tensors are float32 and NCHW-contiguous until converted."""

    op: str
    name: str
    args: tuple
    kwargs: dict[str, Any]

    def __str__(self) -> str:
        return f"{self.op}-{self.name}"

    def map(self, convert: Callable[[str, Tensor], Tensor]) -> Sample:
        """The sample with ``convert(argument_name, tensor)`` applied to every tensor."""
        args = tuple(_mapped(*pair, convert) for pair in zip(_ARGUMENTS[self.op], self.args, strict=True))
        kwargs = {key: _mapped(key, value, convert) for key, value in self.kwargs.items()}
        return replace(self, args=args, kwargs=kwargs)

    def to(self, dtype: torch.dtype) -> Sample:
        """The sample in a dtype; what effops keeps in float32 (means and gates) stays there below float64."""
        kept = ("gate", "pooled")
        return self.map(lambda name, t: t if name in kept and dtype != torch.float64 else t.to(dtype))

    def run(self) -> tuple[Tensor, ...]:
        """The op's outputs, always as a tuple."""
        outputs = getattr(ops, self.op)(*self.args, **self.kwargs)
        return outputs if isinstance(outputs, tuple) else (outputs,)


def _mapped(name: str, value: Any, convert: Callable[[str, Tensor], Tensor]) -> Any:
    """An argument with its tensors converted: itself, or those of a pair or of a dataclass."""
    if isinstance(value, Tensor):
        return convert(name, value)
    if isinstance(value, tuple):
        return tuple(_mapped(name, item, convert) for item in value)
    if is_dataclass(value):
        return replace(value, **{f.name: _mapped(f.name, getattr(value, f.name), convert) for f in fields(value)})
    return value


_ARGUMENTS = {
    "conv_act": ("x", "weight", "bias"),
    "depthwise_conv_act": ("x", "weight", "bias"),
    "pointwise_conv_act": ("x", "weight", "bias"),
    "se_gate": ("pooled", "reduce_weight", "reduce_bias", "expand_weight", "expand_bias"),
    "squeeze_excite": ("x", "reduce_weight", "reduce_bias", "expand_weight", "expand_bias"),
    "mbconv": ("x", "expand", "depthwise", "project"),
    "fused_mbconv": ("x", "expand", "project"),
}

# n, c, h, w, kernel, stride, padding, dilation. From the networks (at reduced height), then odd ones.
DEPTHWISE = (
    (2, 32, 20, 28, 3, 1, 1, 1),
    (1, 96, 18, 30, 3, 2, "same", 1),
    (2, 144, 14, 14, 5, 2, "same", 1),
    (1, 240, 14, 28, 5, 1, 2, 1),
    (2, 480, 14, 14, 3, 1, 1, 1),
    (1, 672, 7, 14, 5, 2, 2, 1),
    (2, 1152, 7, 7, 5, 1, "same", 1),
    (2, 1152, 4, 4, 3, 1, 1, 1),
    (1, 64, 16, 16, 7, 1, 3, 1),
    (2, 24, 15, 13, 7, 2, "same", 1),
    (0, 16, 8, 8, 3, 1, 1, 1),
    (2, 1, 9, 7, 3, 1, 1, 1),
    (3, 13, 17, 5, 5, 1, "same", 1),
    (1, 7, 1, 1, 3, 1, 1, 1),
    (1, 19, 2, 3, 5, 2, "same", 1),
    (1, 40, 1, 30, 3, 1, 1, 1),
    (1, 11, 12, 10, 4, 1, "same", 1),
    (1, 9, 12, 10, 1, 1, 0, 1),
    (1, 10, 21, 20, 9, 3, 4, 1),
    (1, 17, 13, 14, 3, 1, 2, 2),
    (1, 8, 14, 15, 5, 1, "same", 2),
    (1, 12, 10, 11, 3, (2, 1), (0, 2), 1),
    (1, 6, 9, 9, 3, 1, 5, 1),
    (1, 5, 23, 25, 2, 11, 0, 1),
)
# n, c, h, w, out_channels, kernel, stride, padding, dilation
_DENSE = (
    (2, 3, 24, 26, 32, 3, 2, "same", 1),
    (1, 3, 25, 24, 40, 3, 2, 1, 1),
    (0, 3, 8, 8, 16, 3, 2, 1, 1),
    (1, 5, 9, 7, 17, 5, 1, 2, 1),
    (2, 4, 10, 11, 9, 3, 1, 2, 2),
    (1, 1, 1, 1, 1, 1, 1, 0, 1),
)
# n, c, h, w, out_channels
POINTWISE = (
    (2, 16, 20, 21, 96),
    (2, 96, 14, 14, 24),
    (1, 144, 9, 8, 40),
    (2, 480, 7, 7, 112),
    (1, 1152, 7, 7, 320),
    (2, 320, 4, 4, 1280),
    (3, 960, 1, 1, 100),
    (0, 16, 8, 8, 24),
    (1, 1, 3, 3, 1),
    (2, 13, 5, 7, 17),
    (1, 33, 1, 9, 65),
    (1, 3, 2, 2, 7),
)
# n, c, reduced, h, w
SQUEEZE_EXCITE = (
    (2, 32, 8, 14, 14),
    (1, 1152, 48, 7, 7),
    (3, 72, 24, 9, 8),
    (0, 16, 4, 5, 5),
    (2, 13, 1, 11, 12),
    (1, 1, 1, 1, 1),
    (2, 960, 240, 3, 3),
)
# n, c, hidden (0: no expansion), out_channels, h, w, kernel, stride, padding, dilation, squeeze-excite width. The first
# ones are large enough to run depth first on a CPU.
_BLOCKS = (
    (2, 16, 96, 24, 64, 52, 3, 2, "same", 1, 0),
    (1, 24, 72, 24, 70, 62, 3, 1, 1, 1, 0),
    (2, 24, 144, 40, 45, 47, 5, 2, "same", 1, 6),
    (1, 40, 120, 40, 50, 50, 5, 1, 2, 1, 30),
    (2, 40, 0, 16, 90, 84, 3, 1, 1, 1, 0),
    (2, 17, 0, 17, 60, 61, 3, 1, "same", 1, 0),
    (1, 13, 67, 11, 71, 67, 7, 1, 3, 1, 0),
    (1, 8, 40, 8, 89, 85, 3, 1, 2, 2, 0),
    (1, 8, 48, 9, 80, 79, 3, (2, 1), (0, 2), 1, 3),
    (2, 16, 64, 24, 7, 6, 3, 1, 1, 1, 4),
    (0, 8, 16, 8, 40, 40, 3, 1, 1, 1, 0),
    (1, 5, 7, 5, 1, 1, 3, 1, 1, 1, 2),
)
# n, c, hidden, out, h, w, kernel, stride, padding, dilation. From EfficientNetV2, EdgeTPU and MobileNetV4 first.
_FUSED_BLOCKS = (
    (2, 24, 96, 48, 12, 14, 3, 2, 1, 1),
    (1, 48, 192, 48, 10, 14, 3, 1, "same", 1),
    (2, 32, 128, 48, 15, 13, 3, 2, "same", 1),
    (1, 16, 64, 16, 8, 8, 3, 1, 1, 1),
    (1, 24, 144, 40, 9, 10, 5, 2, 2, 1),
    (2, 13, 29, 13, 7, 5, 3, 1, 1, 1),
    (1, 17, 5, 11, 1, 1, 3, 1, 1, 1),
    (0, 8, 32, 8, 6, 6, 3, 1, 1, 1),
    (1, 3, 31, 37, 9, 11, 2, 1, "same", 1),
    (1, 9, 40, 9, 12, 10, 3, 1, 2, 2),
    (1, 10, 33, 7, 9, 9, 3, (2, 1), (0, 2), 1),
    (1, 12, 16, 12, 5, 6, 1, 1, 0, 1),
)


def generator(*key: object) -> torch.Generator:
    return torch.Generator().manual_seed(zlib.crc32(repr(key).encode()))


def _conv_samples(op: str, rows: tuple) -> Iterator[Sample]:
    depthwise = op == "depthwise_conv_act"
    for i, row in enumerate(rows):
        n, c, h, w = row[:4]
        out = c if depthwise else row[4]
        kernel, stride, padding, dilation = row[4:] if depthwise else row[5:]
        g = generator(op, row)
        x = torch.randn(n, c, h, w, generator=g)
        weight = torch.randn(out, 1 if depthwise else c, kernel, kernel, generator=g)
        bias = torch.randn(out, generator=g) if i % 4 != 3 else None
        kwargs = {
            "stride": stride,
            "padding": padding,
            "dilation": dilation,
            "act": ACTIVATIONS[i % len(ACTIVATIONS)],
        }
        name = f"{n}x{c}x{h}x{w}-k{kernel}-s{stride}-p{padding}-d{dilation}-{kwargs['act']}".replace(" ", "")
        yield Sample(op, name, (x, weight, bias), kwargs)
        if depthwise:
            yield Sample(op, name + "-pool", (x, weight, bias), {**kwargs, "pool": True})


def _pointwise_samples() -> Iterator[Sample]:
    for i, (n, c, h, w, out) in enumerate(POINTWISE):
        g = generator("pointwise", i)
        x = torch.randn(n, c, h, w, generator=g)
        weight = torch.randn(out, c, 1, 1, generator=g) / c**0.5
        bias = torch.randn(out, generator=g) if i % 4 != 3 else None
        gate = torch.rand(n, c, generator=g)
        residual = torch.randn(n, out, h, w, generator=g)
        for suffix, extra in (
            ("", {}),
            ("-gate", {"gate": gate}),
            ("-gate-residual", {"gate": gate, "residual": residual}),
        ):
            act = ACTIVATIONS[(i + len(extra)) % len(ACTIVATIONS)]
            name = f"{n}x{c}x{h}x{w}-o{out}-{act}{suffix}"
            args = (x, weight[:, :, 0, 0] if i % 3 == 2 else weight, bias)
            yield Sample("pointwise_conv_act", name, args, {"act": act, **extra})


def _se_samples(op: str) -> Iterator[Sample]:
    for i, (n, c, r, h, w) in enumerate(SQUEEZE_EXCITE):
        g = generator("se", i)
        x = torch.randn(n, c, h, w, generator=g)
        weights = (
            torch.randn(r, c, 1, 1, generator=g) / c**0.5,
            torch.randn(r, generator=g),
            torch.randn(c, r, 1, 1, generator=g) / r**0.5,
            torch.randn(c, generator=g) if i % 2 else None,
        )
        kwargs = {"act": ("silu", "relu")[i % 2], "gate": GATES[i % 2]}
        name = f"{n}x{c}x{h}x{w}-r{r}-{kwargs['act']}-{kwargs['gate']}"
        if op == "se_gate":
            yield Sample(op, name, (x.mean((2, 3)), *weights), kwargs)
            continue
        yield Sample(op, name, (x, *weights), kwargs)
        yield Sample(op, name + "-pooled", (x, *weights), {**kwargs, "pooled": x.mean((2, 3))})


def _block_samples() -> Iterator[Sample]:
    for i, (n, c, hidden, out, h, w, kernel, stride, padding, dilation, reduced) in enumerate(_BLOCKS):
        g = generator("mbconv", i)
        m = hidden or c
        x = torch.randn(n, c, h, w, generator=g)
        biases = [torch.randn(size, generator=g) if i % 4 != 3 else None for size in (m, m, out)]
        expand = (torch.randn(m, c, 1, 1, generator=g) / c**0.5, biases[0]) if hidden else None
        depthwise = (torch.randn(m, 1, kernel, kernel, generator=g) / kernel, biases[1])
        project = (torch.randn(out, m, 1, 1, generator=g) / m**0.5, biases[2])
        act, gate = ACTIVATIONS[(i + 1) % len(ACTIVATIONS)], GATES[i % 2]
        shape = ops.depthwise_conv_act(
            x.new_zeros(1, m, h, w), depthwise[0], stride=stride, padding=padding, dilation=dilation
        ).shape
        kwargs = {
            "stride": stride,
            "padding": padding,
            "dilation": dilation,
            "act": act,
            "residual": (c, h, w) == (out, *shape[2:]),
        }
        if reduced:
            reduce, excite = torch.randn(reduced, m, generator=g) / m**0.5, torch.randn(m, reduced, generator=g)
            vectors = torch.randn(reduced, generator=g), torch.randn(m, generator=g)
            kwargs["squeeze_excite"] = ops.SqueezeExcite(reduce, vectors[0], excite, vectors[1], act, gate)
        if i % 3 == 1:
            kwargs["project_act"] = "relu6"
        name = f"{n}x{c}x{h}x{w}-m{hidden}-o{out}-k{kernel}-s{stride}-p{padding}-d{dilation}-se{reduced}-{act}"
        yield Sample("mbconv", name.replace(" ", ""), (x, expand, depthwise, project), kwargs)


def _fused_block_samples() -> Iterator[Sample]:
    for i, (n, c, hidden, out, h, w, kernel, stride, padding, dilation) in enumerate(_FUSED_BLOCKS):
        g = generator("fused_mbconv", i)
        x = torch.randn(n, c, h, w, generator=g)
        biases = [torch.randn(size, generator=g) if i % 4 != 3 else None for size in (hidden, out)]
        expand = torch.randn(hidden, c, kernel, kernel, generator=g) / (kernel * c**0.5)
        project = torch.randn(out, hidden, 1, 1, generator=g) / hidden**0.5
        act = ACTIVATIONS[(i + 1) % len(ACTIVATIONS)]
        geometry = {"stride": stride, "padding": padding, "dilation": dilation}
        shape = ops.conv_act(x[:1], expand, **geometry).shape if n else (0, 0, 0, 0)
        kwargs = {**geometry, "act": act, "residual": (c, h, w) == (out, *shape[2:])}
        if i % 3 == 1:
            kwargs["project_act"] = "relu6"
        name = f"{n}x{c}x{h}x{w}-m{hidden}-o{out}-k{kernel}-s{stride}-p{padding}-d{dilation}-{act}"
        yield Sample("fused_mbconv", name.replace(" ", ""), (x, (expand, biases[0]), (project, biases[1])), kwargs)


def samples(op: str | None = None) -> Iterator[Sample]:
    """Samples of one public op, or of all: shapes of the networks first, then odd ones."""
    makers = {
        "conv_act": lambda: _conv_samples("conv_act", _DENSE),
        "depthwise_conv_act": lambda: _conv_samples("depthwise_conv_act", DEPTHWISE),
        "pointwise_conv_act": _pointwise_samples,
        "se_gate": lambda: _se_samples("se_gate"),
        "squeeze_excite": lambda: _se_samples("squeeze_excite"),
        "mbconv": _block_samples,
        "fused_mbconv": _fused_block_samples,
    }
    for name, make in makers.items():
        if op in (None, name):
            yield from make()
