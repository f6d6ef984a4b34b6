"""The least arithmetic and the least traffic of the training kernels: inputs read once, outputs written once."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from . import fake_training
from .cost import size_in_bytes
from .spec import Cost


def _pixels(image: Tensor) -> int:
    return image.shape[0] * image.shape[2] * image.shape[3]


def _cost(name: str, macs: Callable[[tuple, tuple], int]) -> Callable[..., Cost]:
    """The cost function of one op from the multiply-accumulates of (arguments, outputs)."""
    fake = getattr(fake_training, name)

    def cost(*args: object) -> Cost:
        outputs = fake(*args)
        outputs = outputs if isinstance(outputs, tuple) else (outputs,)
        inputs = (arg for arg in args if isinstance(arg, Tensor))
        return Cost(macs(args, outputs), size_in_bytes(*inputs, *outputs))

    return cost


def _none(args: tuple, outputs: tuple) -> int:
    return 0


def _forward(weight: int) -> Callable[[tuple, tuple], int]:
    return lambda args, outputs: _pixels(outputs[0]) * args[weight].numel()


def _backward(weight: int) -> Callable[[tuple, tuple], int]:
    """One forward's worth for each of the two gradients that is wanted."""
    return lambda args, outputs: _pixels(args[0]) * args[weight].numel() * (args[-2] + args[-1])


def _gate_mlp(args: tuple, outputs: tuple) -> int:
    """The hidden layer again, and two products for each of the two layers."""
    return args[2].shape[0] * (3 * args[3].numel() + 2 * args[5].numel())


batch_norm_stats = _cost("batch_norm_stats", _none)
batch_norm_apply = _cost("batch_norm_apply", _none)
batch_norm_pool = _cost("batch_norm_pool", _none)
batch_norm_apply_pool = _cost("batch_norm_apply_pool", _none)
batch_norm_grad_sums = _cost("batch_norm_grad_sums", _none)
batch_norm_grad_apply = _cost("batch_norm_grad_apply", _none)
se_gate_backward = _cost("se_gate_backward", _gate_mlp)
pointwise_conv_stats = _cost("pointwise_conv_stats", _forward(weight=3))
depthwise_conv_stats = _cost("depthwise_conv_stats", _forward(weight=2))
pointwise_conv_backward = _cost("pointwise_conv_backward", _backward(weight=10))
depthwise_conv_backward = _cost("depthwise_conv_backward", _backward(weight=9))
