"""The op table: every op of effops is declared here once.

Registration (:mod:`effops.ops.register`), dispatch, the tests, the benches and the docs iterate over ``OPS``.
"""

from __future__ import annotations

from types import ModuleType

from . import backward, cost, cost_training, fake, fake_training, reference, reference_training
from .spec import Op

_GEOMETRY = "int stride_h, int stride_w, int pad_h, int pad_w, int dilation_h, int dilation_w"
_CONV_ARGS = f"Tensor x, Tensor weight, Tensor? bias, {_GEOMETRY}, int act"
# What stands before x or grad in the training kernels: see reference_training.py.
_GRAD = "Tensor grad, Tensor? u, Tensor? coef, Tensor? u_gate, Tensor? pool_grad, int u_act"
_NEEDS = "bool need_x, bool need_weight"
_SE_WEIGHTS = "Tensor reduce_weight, Tensor? reduce_bias, Tensor expand_weight, Tensor? expand_bias"


_FOLDED = (reference, fake, cost)
_TRAINING = (reference_training, fake_training, cost_training)


def _op(
    name: str,
    schema: str,
    formula: str,
    backends: dict[str, tuple[str, ...]],
    modules: tuple[ModuleType, ModuleType, ModuleType] = _FOLDED,
    parts: tuple[str, ...] = (),
) -> Op:
    references, fakes, costs = modules
    return Op(
        name=name,
        schema=schema,
        formula=formula,
        reference=getattr(references, name),
        fake=getattr(fakes, name),
        cost=getattr(costs, name),
        backends=backends,
        backward=getattr(backward, name, None),
        parts=parts,
    )


_GPU = {"cuda": ("cuda", "triton")}
_ALL = {"cpu": ("cpu",), **_GPU}

OPS: dict[str, Op] = {
    op.name: op
    for op in (
        _op(
            "conv_act",
            f"({_CONV_ARGS}) -> Tensor",
            "act(conv(x, W) + b), dense",
            _ALL,
        ),
        _op(
            "depthwise_conv_act",
            f"({_CONV_ARGS}) -> Tensor",
            "act(dwconv(x, W) + b)",
            _ALL,
        ),
        _op(
            "depthwise_conv_act_pool",
            f"({_CONV_ARGS}) -> (Tensor, Tensor)",
            "y = act(dwconv(x, W) + b) and its spatial mean in float32",
            _ALL,
        ),
        _op(
            "pointwise_conv_act",
            "(Tensor x, Tensor weight, Tensor? bias, Tensor? gate, Tensor? residual, int act) -> Tensor",
            "act(W (gate * x) + b) + residual",
            _ALL,
        ),
        _op(
            "se_gate",
            f"(Tensor pooled, {_SE_WEIGHTS}, int act, int gate) -> Tensor",
            "gate(W2 act(W1 pooled + b1) + b2)",
            _ALL,
        ),
        _op(
            "squeeze_excite",
            f"(Tensor x, {_SE_WEIGHTS}, Tensor? pooled, int act, int gate) -> Tensor",
            "x * gate(W2 act(W1 mean(x) + b1) + b2)",
            _ALL,
        ),
        _op(
            "mbconv",
            "(Tensor x, Tensor? expand_weight, Tensor? expand_bias, Tensor depthwise_weight, Tensor? depthwise_bias, "
            f"{_GEOMETRY}, Tensor? reduce_weight, Tensor? reduce_bias, Tensor? excite_weight, Tensor? excite_bias, "
            "Tensor project_weight, Tensor? project_bias, bool residual, int act, int se_act, int gate, "
            "int project_act) -> Tensor",
            "act3(W3 (gate * act(dwconv(act(W1 x + b1), W2) + b2)) + b3) + x: the inverted residual",
            _ALL,
            parts=("pointwise_conv_act", "depthwise_conv_act", "depthwise_conv_act_pool", "se_gate"),
        ),
        _op(
            "fused_mbconv",
            f"(Tensor x, Tensor expand_weight, Tensor? expand_bias, {_GEOMETRY}, Tensor project_weight, "
            "Tensor? project_bias, bool residual, int act, int project_act) -> Tensor",
            "act2(W2 act(conv(x, W1) + b1) + b2) + x: the inverted residual with one dense convolution",
            _ALL,
            parts=("conv_act", "pointwise_conv_act"),
        ),
        # Training: view(x) = act((x - mean) scale + shift) gate; see reference_training.py.
        _op(
            "batch_norm_stats",
            "(Tensor x) -> Tensor",
            "mean and biased variance of every channel",
            _ALL,
            _TRAINING,
        ),
        _op(
            "batch_norm_apply",
            "(Tensor x, Tensor affine, Tensor? gate, Tensor? residual, int act) -> Tensor",
            "view(x) + residual",
            _ALL,
            _TRAINING,
        ),
        _op(
            "batch_norm_pool",
            "(Tensor x, Tensor affine, int act) -> Tensor",
            "spatial mean of view(x) in float32",
            _ALL,
            _TRAINING,
        ),
        _op(
            "batch_norm_apply_pool",
            "(Tensor x, Tensor affine, int act) -> (Tensor, Tensor)",
            "view(x) and its spatial mean in float32",
            _ALL,
            _TRAINING,
        ),
        _op(
            "batch_norm_grad_sums",
            "(Tensor grad, Tensor x, Tensor? affine, int act) -> Tensor",
            "sums over pixels of (g act, g act', act', g act' (x - mean), act' (x - mean))",
            _ALL,
            _TRAINING,
        ),
        _op(
            "batch_norm_grad_apply",
            "(Tensor grad, Tensor? u, Tensor? coef, Tensor? gate, Tensor? pool_grad, int act) -> Tensor",
            "du = scale (g gate + pool_grad) act' + slope (u - mean) + offset",
            _ALL,
            _TRAINING,
        ),
        _op(
            "se_gate_backward",
            f"(Tensor grad, Tensor gated, Tensor pooled, {_SE_WEIGHTS}, int act, int gate) "
            "-> (Tensor, Tensor, Tensor, Tensor, Tensor)",
            "gradients of se_gate for pooled and the weights and biases, from its output and that one's gradient",
            _ALL,
            _TRAINING,
        ),
        _op(
            "pointwise_conv_stats",
            "(Tensor x, Tensor? affine, Tensor? gate, Tensor weight, int act) -> (Tensor, Tensor)",
            "u = W view(x), and its statistics",
            _ALL,
            _TRAINING,
        ),
        _op(
            "depthwise_conv_stats",
            f"(Tensor x, Tensor? affine, Tensor weight, {_GEOMETRY}, int act) -> (Tensor, Tensor)",
            "u = dwconv(view(x), W), and its statistics",
            _ALL,
            _TRAINING,
        ),
        _op(
            "pointwise_conv_backward",
            f"({_GRAD}, Tensor x, Tensor? affine, Tensor? gate, int act, Tensor weight, {_NEEDS}) "
            "-> (Tensor, Tensor, Tensor)",
            "gradients of u = W view(x) for the view and W, and the sums of batch_norm_grad_sums",
            _ALL,
            _TRAINING,
        ),
        _op(
            "depthwise_conv_backward",
            f"({_GRAD}, Tensor x, Tensor? affine, int act, Tensor weight, {_GEOMETRY}, {_NEEDS}) "
            "-> (Tensor, Tensor, Tensor)",
            "gradients of u = dwconv(view(x), W) for the view and W, and the sums of batch_norm_grad_sums",
            _ALL,
            _TRAINING,
        ),
    )
}
