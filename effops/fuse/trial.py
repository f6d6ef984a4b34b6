"""Trial runs: what a foreign module computes, found out by running a copy of it.

Names of classes tell little: here a copy in float64, with random weights and statistics and without hooks, runs on
random values beside what it is thought to compute. Neither the module nor the state of random numbers is touched.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from effops.ops.reference import activation
from effops.ops.shape import pad_before_after
from effops.ops.spec import ACTIVATIONS, SAME

# Two computations that differ in anything but the order of rounding differ by far more. Not tighter, as torch's own
# gradient of hardsigmoid takes a sixth in float32.
TOLERANCE = 1e-6

ACTS: dict[str, Callable[[Tensor], Tensor]] = {
    name: (lambda x, code=code: activation(x, code)) for code, name in enumerate(ACTIVATIONS)
}
GATES: dict[str, Callable[[Tensor], Tensor]] = {"sigmoid": torch.sigmoid, "hardsigmoid": F.hardsigmoid}


class Differs(Exception):
    """A trial run that did not come out as was thought; says how."""


@contextmanager
def own_random_numbers(seed: int = 0) -> Iterator[None]:
    """Random numbers from a seed, and the state of before afterwards."""
    # The CPU's generator alone: trial runs are on the CPU.
    before = torch.get_rng_state()
    torch.default_generator.manual_seed(seed)
    try:
        yield
    finally:
        torch.set_rng_state(before)


def trial_copy(module: nn.Module) -> nn.Module:
    """A copy on the CPU in float64 without hooks, its weights and statistics random.

    Random, because zeros and ones, as batch norms and layer scales start with, would hide what they multiply.
    """
    twin = copy.deepcopy(module)
    on_meta = any(t.is_meta for t in (*twin.parameters(), *twin.buffers()))
    twin = twin.to_empty(device="cpu").double() if on_meta else twin.to(device="cpu", dtype=torch.float64)
    for part in twin.modules():
        strip_hooks(part)
    with torch.no_grad():
        for part in twin.modules():
            for name, parameter in part._parameters.items():
                if parameter is not None and parameter.is_floating_point():
                    _draw(part, name, parameter)
                    parameter.requires_grad_()
            for name, buffer in part._buffers.items():
                if buffer is not None and buffer.is_floating_point():
                    _draw(part, name, buffer)
                elif buffer is not None and on_meta:
                    buffer.zero_()
    return twin


def strip_hooks(module: nn.Module) -> None:
    """Take all hooks of a copied module away."""
    for name in (
        "_forward_hooks",
        "_forward_pre_hooks",
        "_backward_hooks",
        "_backward_pre_hooks",
        "_forward_hooks_with_kwargs",
        "_forward_pre_hooks_with_kwargs",
        "_forward_hooks_always_called",
    ):
        getattr(module, name).clear()


def _draw(module: nn.Module, name: str, tensor: Tensor) -> None:
    if name == "running_var":
        tensor.uniform_(0.5, 2)
    elif tensor.dim() > 1:
        # Inner tensors of the size of the input, so that every activation sees both of its ends.
        tensor.normal_(0, tensor[0].numel() ** -0.5)
    elif name == "weight" and "running_mean" in module._buffers:
        tensor.uniform_(2, 4)
    else:
        tensor.normal_()


def assert_same(actual: Tensor, expected: Tensor, what: str, floor: float = 1e-6) -> None:
    """Raise :class:`Differs` unless two tensors agree to rounding of values at least as large as floor."""
    if not isinstance(expected, Tensor):
        raise Differs(f"{what} is {type(expected).__name__}, not a tensor")
    if actual.shape != expected.shape:
        raise Differs(f"{what} has shape {tuple(expected.shape)}, not {tuple(actual.shape)}")
    scale = expected.abs().max().item() if expected.numel() else 0.0
    error = (actual - expected).abs().max().item() if expected.numel() else 0.0
    if not error <= TOLERANCE * max(scale, floor):
        raise Differs(f"{what} differs: by {error:.2g} at values up to {scale:.2g}")


def agrees(check: Callable[[], None]) -> bool:
    """Whether a check passes; a foreign forward may raise anything at all."""
    try:
        with own_random_numbers(), torch.autocast("cpu", enabled=False):
            check()
    except Exception:
        return False
    return True


def _grid() -> Tensor:
    return torch.linspace(-9, 9, 2 * 3 * 4 * 16, dtype=torch.float64).view(2, 3, 4, 16)


def function_name(module: nn.Module, names: dict[str, Callable[[Tensor], Tensor]] = ACTS | GATES) -> str | None:
    """Name of the activation or gate that a module without parameters is, in eval and training, or None."""
    twin = copy.deepcopy(module)
    for part in twin.modules():
        strip_hooks(part)

    def value_and_gradient(function: Callable[[Tensor], Tensor]) -> tuple[Tensor, Tensor]:
        x = _grid().requires_grad_()
        y = function(x.clone())
        (gradient,) = torch.autograd.grad(y.sum(), x)
        return y.detach(), gradient

    def is_function(expected: Callable[[Tensor], Tensor]) -> None:
        with torch.enable_grad():
            for training in (False, True):
                pairs = zip(value_and_gradient(twin.train(training)), value_and_gradient(expected), strict=True)
                for actual, wanted in pairs:
                    assert_same(actual, wanted, "it")

    return next((name for name, f in names.items() if agrees(lambda f=f: is_function(f))), None)


def is_identity_in_eval(module: nn.Module) -> bool:
    twin = copy.deepcopy(module).eval()
    for part in twin.modules():
        strip_hooks(part)
    return agrees(lambda: assert_same(twin(_grid()), _grid(), "it"))


def conv_behaviour(conv: nn.Conv2d, pad: str | None) -> str | None:
    """How a convolution of an unknown class pads: "plain" as torch, "same" as TensorFlow, "pad" by its child."""
    twin = trial_copy(conv)
    reach = max(d * (k - 1) + 1 for d, k in zip(conv.dilation, conv.kernel_size, strict=True))

    def convolve(x: Tensor, padding: object) -> Tensor:
        return F.conv2d(x, twin.weight, twin.bias, twin.stride, padding, twin.dilation, twin.groups)

    def same(x: Tensor) -> Tensor:
        axes = [
            pad_before_after(x.shape[2 + i], conv.kernel_size[i], conv.stride[i], SAME, conv.dilation[i])
            for i in (1, 0)
        ]
        return convolve(F.pad(x, (*axes[0], *axes[1])), 0)

    ways = {"plain": lambda x: convolve(x, twin.padding), "same": same}
    if pad is not None:
        ways = {"pad": lambda x: convolve(twin._modules[pad](x), twin.padding)}

    def check(way: Callable[[Tensor], Tensor]) -> None:
        for size in ((reach + 5, reach + 8), (reach + 6, reach + 7)):
            x = torch.randn(2, conv.in_channels, *size, dtype=torch.float64)
            assert_same(way(x), twin(x.clone()), "it")

    with torch.no_grad():
        return next((name for name, way in ways.items() if agrees(lambda way=way: check(way))), None)


def is_batch_norm(norm: nn.Module, act: str, *, constant: bool) -> bool:
    """Whether a class that is not torch's computes act(BN(x)), in eval and in training, and moves its statistics so."""
    twin = trial_copy(norm)
    momentum = 0.0 if constant else norm.momentum

    def check() -> None:
        for training in (False, True):
            twin.train(training)
            mean, var = twin.running_mean.clone(), twin.running_var.clone()
            x = torch.randn(3, mean.numel(), 4, 5, dtype=torch.float64) * 2
            actual = twin(x.clone())
            live = training and not constant
            expected = F.batch_norm(x, mean, var, twin.weight, twin.bias, live, momentum, norm.eps)
            assert_same(ACTS[act](expected), actual, "it")
            assert_same(mean, twin.running_mean, "its mean")
            assert_same(var, twin.running_var, "its variance")

    return momentum is not None and agrees(check)


def is_channel_scale(module: nn.Module, name: str) -> bool:
    """Whether a module multiplies every channel by its one parameter."""
    twin = trial_copy(module)
    scale = twin._parameters[name]

    def check() -> None:
        for training in (False, True):
            x = torch.randn(2, scale.numel(), 3, 4, dtype=torch.float64)
            assert_same(x * scale.view(-1, 1, 1), twin.train(training)(x.clone()), "it")

    with torch.no_grad():
        return agrees(check)


def drop_draw(module: nn.Module, rate: str) -> str | None:
    """How stochastic depth draws its factors ("bernoulli", "floor"), or None for a module that is none."""
    twin = copy.deepcopy(module).train()
    for part in twin.modules():
        strip_hooks(part)
    setattr(twin, rate, 0.4)

    def bernoulli(x: Tensor) -> Tensor:
        drawn = x.new_empty(x.shape[0], 1, 1, 1).bernoulli_(0.6)
        return x * (drawn.div_(0.6) if getattr(twin, "scale_by_keep", True) else drawn)

    def floor(x: Tensor) -> Tensor:
        return x / 0.6 * torch.floor(0.6 + torch.rand(x.shape[0], 1, 1, 1, dtype=x.dtype))

    def check(draw: Callable[[Tensor], Tensor]) -> None:
        x = torch.randn(16, 3, 4, 4, dtype=torch.float64)
        state = torch.get_rng_state()
        expected = twin(x.clone())
        torch.set_rng_state(state)
        assert_same(draw(x), expected, "it")

    ways = {"bernoulli": bernoulli, "floor": floor}
    return next((name for name, way in ways.items() if agrees(lambda way=way: check(way))), None)
