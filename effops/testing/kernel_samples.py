"""Sample calls of the training kernels, by the arguments of their schemas.

A training kernel is no public op: the public ones are made of it. Its samples are therefore written at the level of the
op table.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from effops.ops import introspection
from effops.ops.shape import output_size
from effops.ops.spec import ACTIVATIONS, GATES, SAME, Op
from effops.ops.table import OPS

from .samples import DEPTHWISE, POINTWISE, SQUEEZE_EXCITE, Sample, generator

# What stays in float32 whatever the dtype of the images.
_ACCUMULATED = ("affine", "coef", "gate", "u_gate", "pool_grad", "gated", "pooled")


@dataclass(frozen=True)
class KernelSample:
    """Schema arguments of one row of the op table; tensors are float32 and NCHW-contiguous until converted."""

    op: Op
    name: str
    args: tuple

    def __str__(self) -> str:
        return f"{self.op.name}-{self.name}"

    @classmethod
    def of(cls, sample: Sample) -> KernelSample:
        """A sample of a public op as a call of the one row that serves it."""
        op, args = introspection.prepared(sample.op, *sample.args, **sample.kwargs)
        return cls(op, sample.name, args)

    def map(self, convert: Callable[[str, Tensor], Tensor]) -> KernelSample:
        """The sample with ``convert(argument_name, tensor)`` applied to every tensor."""
        names = inspect.signature(self.op.reference).parameters
        pairs = zip(names, self.args, strict=True)
        return replace(self, args=tuple(convert(n, arg) if isinstance(arg, Tensor) else arg for n, arg in pairs))

    def to(self, dtype: torch.dtype) -> KernelSample:
        """The sample in a dtype of the images; vectors stay in float32 below float64."""

        def kept(name: str, t: Tensor) -> bool:
            return name in _ACCUMULATED or (name == "grad" and t.dim() != 4)

        return self.map(lambda name, t: t if kept(name, t) and dtype != torch.float64 else t.to(dtype))

    def run(self, namespace: str = "effops") -> tuple[Tensor, ...]:
        """The outputs of the kernel registered in this namespace of ``torch.ops``, always as a tuple."""
        return _tuple(self.op.overload_in(namespace)(*self.args))

    def reference(self) -> tuple[Tensor, ...]:
        """The outputs of the reference, always as a tuple."""
        return _tuple(self.op.reference(*self.args))


def _tuple(outputs: Tensor | tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    return outputs if isinstance(outputs, tuple) else (outputs,)


class _Maker:
    """Random tensors of one sample: images around a mean, vectors of the sizes that batch norm gives."""

    def __init__(self, *key: object) -> None:
        self.generator = generator("kernel", *key)

    def normal(self, *size: int) -> Tensor:
        return torch.randn(size, generator=self.generator)

    def image(self, n: int, c: int, h: int, w: int) -> Tensor:
        return self.normal(n, c, h, w) + self.normal(1, c, 1, 1)

    def uniform(self, *size: int) -> Tensor:
        return torch.rand(size, generator=self.generator)

    def affine(self, c: int) -> Tensor:
        return torch.stack([self.normal(c), 0.5 + self.uniform(c), self.normal(c)])

    def coef(self, c: int) -> Tensor:
        return torch.cat([self.affine(c), 0.2 * self.normal(2, c)])


def _act(i: int) -> int:
    return i % len(ACTIVATIONS)


def _size(shape: tuple[int, ...], act: int) -> str:
    return "x".join(str(s) for s in shape) + f"-{ACTIVATIONS[act]}"


_IMAGES = (
    (2, 32, 14, 15),
    (1, 96, 28, 28),
    (3, 13, 9, 7),
    (2, 1152, 7, 7),
    (1, 1, 1, 1),
    (0, 16, 5, 5),
    (2, 17, 1, 33),
)


def _pass_samples() -> Iterator[KernelSample]:
    for i, (n, c, h, w) in enumerate(_IMAGES):
        make = _Maker("pass", i)
        x, affine, gate = make.image(n, c, h, w), make.affine(c), make.uniform(n, c)
        residual, grad, coef, pool_grad = (
            make.normal(n, c, h, w),
            make.normal(n, c, h, w),
            make.coef(c),
            make.normal(n, c),
        )
        for act in range(len(ACTIVATIONS)) if i == 0 else (_act(i), _act(i + 3)):
            size = _size((n, c, h, w), act)
            yield KernelSample(OPS["batch_norm_apply"], size, (x, affine, None, None, act))
            yield KernelSample(OPS["batch_norm_apply"], f"{size}-gate-residual", (x, affine, gate, residual, act))
            yield KernelSample(OPS["batch_norm_pool"], size, (x, affine, act))
            yield KernelSample(OPS["batch_norm_apply_pool"], size, (x, affine, act))
            yield KernelSample(OPS["batch_norm_grad_sums"], size, (grad, x, affine, act))
            yield KernelSample(OPS["batch_norm_grad_apply"], size, (grad, x, coef, None, None, act))
            yield KernelSample(OPS["batch_norm_grad_apply"], f"{size}-gate-pool", (grad, x, coef, gate, pool_grad, act))
        size = _size((n, c, h, w), 0)
        yield KernelSample(OPS["batch_norm_stats"], size, (x,))
        yield KernelSample(OPS["batch_norm_grad_sums"], f"{size}-plain", (grad, x, None, 0))
        yield KernelSample(
            OPS["batch_norm_grad_apply"], f"{size}-plain-gate-pool", (grad, None, None, gate, pool_grad, 0)
        )


def _gate_samples() -> Iterator[KernelSample]:
    for i, (n, c, r, _, _) in enumerate(SQUEEZE_EXCITE):
        make = _Maker("gate", i)
        grad, pooled = make.normal(n, c), make.normal(n, c)
        kernel = (1, 1) if i % 2 else ()
        reduce, expand = make.normal(r, c, *kernel) / c**0.5, make.normal(c, r, *kernel) / r**0.5
        biases = (make.normal(r), make.normal(c)) if i % 3 else (None, None)
        weights = (reduce, biases[0], expand, biases[1])
        for gate in range(len(GATES)):
            act = _act(i + gate + 1)
            logits = make.normal(n, c)
            gated = torch.sigmoid(logits) if GATES[gate] == "sigmoid" else torch.nn.functional.hardsigmoid(2 * logits)
            name = f"{n}x{c}-r{r}-{ACTIVATIONS[act]}-{GATES[gate]}"
            yield KernelSample(OPS["se_gate_backward"], name, (grad, gated, pooled, *weights, act, gate))


def _pointwise_samples() -> Iterator[KernelSample]:
    for i, (n, c, h, w, out) in enumerate(POINTWISE):
        make = _Maker("pointwise", i)
        x, affine, gate = make.image(n, c, h, w), make.affine(c), make.uniform(n, c)
        weight = make.normal(out, c, 1, 1) / c**0.5
        grad, u, coef = make.normal(n, out, h, w), make.image(n, out, h, w), make.coef(out)
        u_gate, pool_grad = make.uniform(n, out), make.normal(n, out)
        act, u_act = _act(i), _act(i + 2)
        size = _size((n, c, h, w, out), act)
        for name, view in (("plain", (None, None, 0)), ("view", (affine, None, act)), ("gated", (affine, gate, act))):
            forward = (x, *view[:2], weight, view[2])
            yield KernelSample(OPS["pointwise_conv_stats"], f"{size}-{name}", forward)
            read = (x, *view, weight)
            op = OPS["pointwise_conv_backward"]
            yield KernelSample(op, f"{size}-{name}", (grad, u, coef, None, None, u_act, *read, True, True))
            if name == "plain":
                yield KernelSample(op, f"{size}-direct", (grad, None, None, None, None, 0, *read, True, True))
                yield KernelSample(op, f"{size}-weight", (grad, u, coef, None, None, u_act, *read, False, True))
        pooled = (grad, u, coef, u_gate, pool_grad, u_act)
        yield KernelSample(op, f"{size}-pooled-input", (*pooled, x, affine, None, act, weight, True, False))
        ungated = (x, None, gate, 0, weight)
        yield KernelSample(op, f"{size}-gate-alone", (grad, None, None, None, None, 0, *ungated, True, True))


def _pair(value: int | tuple[int, int]) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else value


def _depthwise_samples() -> Iterator[KernelSample]:
    for i, (n, c, h, w, kernel, stride, padding, dilation) in enumerate(DEPTHWISE):
        make = _Maker("depthwise", i)
        pads = (SAME, SAME) if padding == "same" else _pair(padding)
        strides, dilations = _pair(stride), _pair(dilation)
        oh, ow = (output_size((h, w)[a], kernel, strides[a], pads[a], dilations[a]) for a in (0, 1))
        x, affine = make.image(n, c, h, w), make.affine(c)
        weight = make.normal(c, 1, kernel, kernel) / kernel
        grad, u, coef = make.normal(n, c, oh, ow), make.image(n, c, oh, ow), make.coef(c)
        u_gate, pool_grad = make.uniform(n, c), make.normal(n, c)
        act, u_act = _act(i), _act(i + 2)
        geometry = (*strides, *pads, *dilations)
        size = f"{n}x{c}x{h}x{w}-k{kernel}-s{stride}-p{padding}-d{dilation}-{ACTIVATIONS[act]}".replace(" ", "")
        op = OPS["depthwise_conv_backward"]
        for name, view in (("plain", (None, 0)), ("view", (affine, act))):
            yield KernelSample(OPS["depthwise_conv_stats"], f"{size}-{name}", (x, view[0], weight, *geometry, view[1]))
            read = (x, *view, weight, *geometry)
            yield KernelSample(op, f"{size}-{name}", (grad, u, coef, None, None, u_act, *read, True, True))
            yield KernelSample(
                op, f"{size}-{name}-pooled", (grad, u, coef, u_gate, pool_grad, u_act, *read, True, True)
            )
        plain = (x, None, 0, weight, *geometry)
        yield KernelSample(op, f"{size}-direct", (grad, None, None, None, None, 0, *plain, True, True))
        yield KernelSample(op, f"{size}-weight", (grad, u, coef, None, None, u_act, *plain, False, True))
        yield KernelSample(op, f"{size}-input", (grad, u, coef, None, None, u_act, *plain, True, False))


def kernel_samples(op: str | None = None) -> Iterator[KernelSample]:
    """Samples of one training kernel, or of all."""
    for make in (_pass_samples, _gate_samples, _pointwise_samples, _depthwise_samples):
        for sample in make():
            if op in (None, sample.op.name):
                yield sample
