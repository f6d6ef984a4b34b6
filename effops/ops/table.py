"""The op table: every op of effops is declared here once.

Registration (:mod:`effops.ops.register`), dispatch, the tests, the benches and the docs iterate over ``OPS``.
"""

from __future__ import annotations

from . import cost, fake, reference
from .spec import Op

_CONV_ARGS = (
    "Tensor x, Tensor weight, Tensor? bias, int stride_h, int stride_w, int pad_h, int pad_w, "
    "int dilation_h, int dilation_w, int act"
)
_SE_WEIGHTS = "Tensor reduce_weight, Tensor? reduce_bias, Tensor expand_weight, Tensor? expand_bias"


def _op(name: str, schema: str, formula: str, backends: dict[str, tuple[str, ...]]) -> Op:
    return Op(
        name=name,
        schema=schema,
        formula=formula,
        reference=getattr(reference, name),
        fake=getattr(fake, name),
        cost=getattr(cost, name),
        backends=backends,
    )


_CPU = {"cpu": ("cpu",)}

OPS: dict[str, Op] = {
    op.name: op
    for op in (
        _op(
            "conv_act",
            f"({_CONV_ARGS}) -> Tensor",
            "act(conv(x, W) + b), dense",
            _CPU,
        ),
        _op(
            "depthwise_conv_act",
            f"({_CONV_ARGS}) -> Tensor",
            "act(dwconv(x, W) + b)",
            _CPU,
        ),
        _op(
            "depthwise_conv_act_pool",
            f"({_CONV_ARGS}) -> (Tensor, Tensor)",
            "y = act(dwconv(x, W) + b) and its spatial mean in float32",
            _CPU,
        ),
        _op(
            "pointwise_conv_act",
            "(Tensor x, Tensor weight, Tensor? bias, Tensor? gate, Tensor? residual, int act) -> Tensor",
            "act(W (gate * x) + b) + residual",
            _CPU,
        ),
        _op(
            "se_gate",
            f"(Tensor pooled, {_SE_WEIGHTS}, int act, int gate) -> Tensor",
            "gate(W2 act(W1 pooled + b1) + b2)",
            _CPU,
        ),
        _op(
            "squeeze_excite",
            f"(Tensor x, {_SE_WEIGHTS}, Tensor? pooled, int act, int gate) -> Tensor",
            "x * gate(W2 act(W1 mean(x) + b1) + b2)",
            _CPU,
        ),
    )
}
