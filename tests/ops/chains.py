"""Chains for the tests of training: the blocks of the networks in small, and odd ones."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, fields, replace
from typing import Any

import torch
from torch import Tensor

from effops.ops import BatchNorm, Layer, SqueezeExcite, conv_bn_chain


@dataclass
class Case:
    """A call of conv_bn_chain; float32 until converted."""

    name: str
    x: Tensor
    layers: list[Layer]
    kwargs: dict[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        return self.name

    def parameters(self) -> list[Tensor]:
        """Every tensor that takes a gradient, x first."""
        found = [self.x]
        for layer in self.layers:
            found += [layer.weight, layer.batch_norm.weight, layer.batch_norm.bias]
            if layer.squeeze_excite is not None:
                se = layer.squeeze_excite
                found += [se.reduce_weight, se.reduce_bias, se.expand_weight, se.expand_bias]
        return [t for t in found if t is not None]

    def running(self) -> list[Tensor]:
        norms = (layer.batch_norm for layer in self.layers)
        return [t for bn in norms for t in (bn.running_mean, bn.running_var) if t is not None]

    def to(self, dtype: torch.dtype, parameters: torch.dtype | None = None, device: torch.device | None = None) -> Case:
        """A copy with x and weights in a dtype, what belongs to batch norm and squeeze-excite in ``parameters``."""
        rest = parameters or dtype

        def copy(value: Any, to: torch.dtype) -> Any:
            if not isinstance(value, Tensor):
                return value
            kept = to if value.is_floating_point() else value.dtype
            return value.detach().to(device or value.device, kept, copy=True)

        def leaf(value: Any, to: torch.dtype) -> Any:
            return copy(value, to).requires_grad_() if isinstance(value, Tensor) else value

        layers = []
        for layer in self.layers:
            bn = layer.batch_norm
            norm = replace(bn, weight=leaf(bn.weight, rest), bias=leaf(bn.bias, rest))
            for name in ("running_mean", "running_var", "num_batches_tracked"):
                setattr(norm, name, copy(getattr(bn, name), rest))
            se = layer.squeeze_excite
            if se is not None:
                se = replace(se, **{f.name: leaf(getattr(se, f.name), rest) for f in fields(se)})
            layers.append(replace(layer, weight=leaf(layer.weight, dtype), batch_norm=norm, squeeze_excite=se))
        kwargs = {key: copy(value, rest) for key, value in self.kwargs.items()}
        return Case(self.name, leaf(self.x, dtype), layers, kwargs)

    def forward(self) -> tuple[Tensor, ...]:
        outputs = conv_bn_chain(self.x, self.layers, **self.kwargs)
        return outputs if isinstance(outputs, tuple) else (outputs,)

    def step(self) -> dict[str, Tensor]:
        """Outputs, gradients of a loss that weighs every value differently, and running statistics."""
        outputs = self.forward()
        loss = sum((y * ramp(y)).sum() for y in outputs)
        grads = torch.autograd.grad(loss, self.parameters())
        found = {f"output {i}": y.detach() for i, y in enumerate(outputs)}
        found |= {f"gradient {i}": g for i, g in enumerate(grads)}
        return found | {f"running {i}": t for i, t in enumerate(self.running())}


def ramp(y: Tensor) -> Tensor:
    """Weights of a loss whose gradient is neither constant nor in step with the channels."""
    return torch.sin(torch.arange(y.numel(), dtype=torch.float64)).view(y.shape).to(y.dtype)


class _Maker:
    def __init__(self, seed: int) -> None:
        self.generator = torch.Generator().manual_seed(seed)

    def normal(self, *size: int) -> Tensor:
        return torch.randn(size, generator=self.generator)

    def norm(self, c: int, **kwargs: Any) -> BatchNorm:
        weight = 0.5 + torch.rand(c, generator=self.generator)
        running = (0.3 * self.normal(c), 0.5 + torch.rand(c, generator=self.generator))
        return BatchNorm(weight, self.normal(c), *running, **kwargs)

    def pointwise(self, c: int, out: int, **kwargs: Any) -> Layer:
        return Layer("pointwise", self.normal(out, c, 1, 1) / c**0.5, self.norm(out), **kwargs)

    def depthwise(self, c: int, k: int, **kwargs: Any) -> Layer:
        return Layer("depthwise", self.normal(c, 1, k, k) / k, self.norm(c), **kwargs)

    def gate(self, c: int, r: int, **kwargs: Any) -> SqueezeExcite:
        first, second = self.normal(r, c, 1, 1) / c**0.5, self.normal(c, r, 1, 1) / r**0.5
        return SqueezeExcite(first, self.normal(r), second, self.normal(c), **kwargs)


def cases() -> Iterator[Case]:
    m = _Maker(0)
    same = {"padding": "same"}
    inverted = [
        m.pointwise(16, 40, act="silu"),
        m.depthwise(40, 3, act="silu", **same),
        m.pointwise(40, 16, squeeze_excite=m.gate(40, 4, act="silu")),
    ]
    x = m.normal(3, 16, 14, 15)
    drop = torch.tensor([1.25, 0.0, 1.25])
    yield Case("mbconv-se-silu", x, inverted)
    yield Case("mbconv-se-silu-residual", x, inverted, {"residual": True})
    yield Case("mbconv-se-silu-drop-path", x, inverted, {"residual": True, "sample_scale": drop})
    yield Case("mbconv-se-silu-low", x, inverted, {"residual": True, "memory": "low"})
    yield Case(
        "mbconv-se-hardswish-k5-s2",
        m.normal(2, 13, 17, 16),
        [
            m.pointwise(13, 37, act="hardswish"),
            m.depthwise(37, 5, stride=2, act="hardswish", padding=2),
            m.pointwise(37, 19, squeeze_excite=m.gate(37, 8, act="relu", gate="hardsigmoid")),
        ],
    )
    yield Case(
        "mbconv-relu6-s2",
        m.normal(2, 8, 12, 12),
        [
            m.pointwise(8, 48, act="relu6"),
            m.depthwise(48, 3, stride=2, act="relu6", **same),
            m.pointwise(48, 24),
        ],
    )
    yield Case("separable-se", m.normal(2, 32, 9, 9), [m.depthwise(32, 3, padding=1, act="silu"), m.pointwise(32, 16)])
    dense = Layer("dense", m.normal(24, 3, 3, 3) / 5, m.norm(24), stride=2, padding="same", act="hardswish")
    yield Case("stem", m.normal(2, 3, 18, 19), [dense])
    yield Case("dense-pointwise", m.normal(2, 3, 18, 19), [dense, m.pointwise(24, 12)])
    yield Case("batch-norm", m.normal(2, 17, 9, 8) + 3, [Layer("none", None, m.norm(17), act="gelu")])
    yield Case("head-pool", m.normal(3, 12, 7, 7), [m.pointwise(12, 50, act="silu")], {"pool": True})
    yield Case("depthwise-pool", m.normal(2, 9, 8, 8), [m.depthwise(9, 5, padding=2, act="relu")], {"pool": True})
    frozen = [
        m.pointwise(8, 24, act="silu"),
        m.depthwise(24, 3, padding=1, act="silu"),
        m.pointwise(24, 8, squeeze_excite=m.gate(24, 4)),
    ]
    for layer in frozen[:2]:
        layer.batch_norm.training = False
    yield Case("partly-frozen", m.normal(2, 8, 10, 9), frozen, {"residual": True})
    bare = [m.pointwise(8, 24, act="silu"), m.depthwise(24, 3, padding=1, act="relu")]
    for layer in bare:
        layer.batch_norm = replace(layer.batch_norm, weight=None, bias=None, running_mean=None, running_var=None)
    yield Case("no-affine-no-running", m.normal(2, 8, 10, 9), bare)
    yield Case(
        "dilated",
        m.normal(2, 6, 11, 12),
        [m.pointwise(6, 10, act="relu"), m.depthwise(10, 3, dilation=2, padding=2), m.pointwise(10, 6)],
    )
