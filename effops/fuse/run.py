"""Runs the programs of fused modules by ``effops.ops``, or says that the modules themselves have to run."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn.modules.module import _has_any_global_hook

from effops.nn.folding import FoldCache
from effops.nn.prepared import State
from effops.nn.sync_batch_norm import batch_norm_of
from effops.nn.units import Unit, eval_call, run_units
from effops.ops import backends
from effops.ops.chain import NO_CONV
from effops.ops.functional import squeeze_excite
from effops.ops.reference import accumulation_dtype
from effops.ops.shape import pad_before_after
from effops.ops.spec import SAME
from effops.ops.training import Layer, SqueezeExcite, conv_bn_chain

from .program import Activation, ChainProgram, Conv, ConvUnit, Drop, GateProgram, Norm, NormProgram, Part, settings

_ABSENT = torch.empty(0)


class ConstantNorm:
    """A frozen batch norm (all of its tensors are buffers) with the names of ``nn.BatchNorm2d``."""

    __slots__ = ("_buffers", "_parameters", "eps")
    training = False
    momentum = 0.1
    num_batches_tracked = None

    def __init__(self, module: nn.Module) -> None:
        held = module._buffers
        self.eps = module.eps
        self._parameters = {"weight": held["weight"], "bias": held["bias"]}
        self._buffers = {
            "running_mean": held["running_mean"],
            "running_var": held["running_var"],
            "num_batches_tracked": _ABSENT,
        }

    @property
    def weight(self) -> Tensor:
        return self._parameters["weight"]

    @property
    def bias(self) -> Tensor:
        return self._parameters["bias"]

    @property
    def running_mean(self) -> Tensor:
        return self._buffers["running_mean"]

    @property
    def running_var(self) -> Tensor:
        return self._buffers["running_var"]


class _GateWeights:
    """A squeeze-excite of another make, as :mod:`effops.nn.units` wants it; its modules have been looked at."""

    __slots__ = ("weights",)

    def __init__(self, weights: SqueezeExcite) -> None:
        self.weights = weights

    def parameters(self) -> list[Tensor]:
        weights = self.weights
        tensors = weights.reduce_weight, weights.reduce_bias, weights.expand_weight, weights.expand_bias
        return [tensor for tensor in tensors if tensor is not None]

    def gate_weights(self) -> SqueezeExcite:
        return self.weights

    def is_plain(self) -> bool:
        return True


def runnable(x: object) -> bool:
    """Whether fused ops may take this input at all: a batch of images that some kernel serves, nothing watching."""
    if not isinstance(x, Tensor) or x.dim() != 4 or not x.is_floating_point():
        return False
    if torch.compiler.is_compiling():
        return True
    known = type(x) is Tensor or type(x) is nn.Parameter or isinstance(x, _TRACED)
    return known and backends.serves(x) and not _has_any_global_hook() and not _transformed()


_TRACED = (torch._subclasses.FakeTensor, torch._subclasses.functional_tensor.FunctionalTensor)
# The ops have no rules for vmap and its kin.
_transformed = torch._C._are_functorch_transforms_active


def run(
    root: nn.Module,
    program: ChainProgram | NormProgram | GateProgram,
    x: Tensor,
    folds: FoldCache,
    memory: str = "default",
    rate: float | None = None,
    inside: Sequence[str] = (),
) -> Tensor | None:
    """The program on an input that is :func:`runnable`; None where the modules have to run, which then have not yet.

    Args:
        folds: where the folded weights of eval calls are kept.
        memory: see :func:`effops.nn.set_memory`.
        rate: of stochastic depth, where the forward takes it as an argument.
        inside: names of the children of root that the program stands for; all where none is named.
    """
    if isinstance(program, GateProgram):
        weights = _gate_weights(root, program)
        if weights is None:
            return None
        tensors = weights.reduce_weight, weights.reduce_bias, weights.expand_weight, weights.expand_bias
        return squeeze_excite(x, *tensors, act=weights.act, gate=weights.gate)
    if isinstance(program, NormProgram):
        norm = _norm(root, program.norm)
        if norm is None or not (_active(root, program.act) and _all_there(root, program.around)):
            return None
        return conv_bn_chain(x, [Layer(NO_CONV, None, batch_norm_of(norm), act=program.act.name)])
    if root.training:
        units = _units(root, program, x)
        return None if units is None else _run_units(root, program, units, x, None, memory, rate)

    def snapshot(units: Sequence[Unit], tensors: Sequence[Tensor]) -> State:
        tops = [root._modules[name] for name in inside] if inside else root.children()
        return State(root, [part for top in tops for part in top.modules()], tensors, setting_names)

    compute = partial(_run_units, root, program, x=x, folds=folds, memory=memory, rate=rate)
    return eval_call(folds, inside[0] if inside else "", x, partial(_units, root, program, x), compute, snapshot)


def setting_names(module: nn.Module) -> list[str]:
    """The attributes of a module that may decide what it computes."""
    return [*(name for name, _ in settings(module)), "stride", "padding", "dilation"]


def _units(root: nn.Module, program: ChainProgram, x: Tensor) -> list[Unit] | None:
    if not _all_there(root, program.around):
        return None
    units = [_unit(root, spec, x.shape[2:]) for spec in program.units]
    return None if None in units else units


def _run_units(
    root: nn.Module,
    program: ChainProgram,
    units: list[Unit],
    x: Tensor,
    folds: FoldCache | None,
    memory: str,
    rate: float | None,
) -> Tensor | None:
    drop = program.drop
    if not program.residual or drop is None:
        return run_units(units, x, folds, residual=program.residual, memory=memory)
    module = None
    if drop.part is not None:
        module = drop.part.of(root)
        if module is None:
            return None
        rate = module.__dict__.get(drop.rate)
    if drop.draw == "module" and module.training and rate != 0:
        y = run_units(units, x, folds, memory=memory)
        # Dropout draws in the order of memory: of the same order as after the modules, it drops the same values.
        return None if y is None else module(y.contiguous() if x.is_contiguous() else y) + x
    training = root.training if module is None else module.training
    draws = training and rate and drop.draw != "module"
    sample_scale = (lambda x: _sample_scale(x, drop, rate, module)) if draws else None
    return run_units(units, x, folds, residual=True, sample_scale=sample_scale, memory=memory)


def _sample_scale(x: Tensor, drop: Drop, rate: float, module: nn.Module | None) -> Tensor:
    """The factor of every sample, drawn with the numbers that the module would have drawn."""
    keep = 1 - rate
    shape = (x.shape[0], 1, 1, 1)
    if drop.draw == "floor":
        drawn = torch.rand(shape, dtype=x.dtype, device=x.device).add_(keep).floor_()
    else:
        drawn = x.new_empty(shape).bernoulli_(keep)
    drawn = drawn.flatten().to(accumulation_dtype(x))
    scales = module is None or module.__dict__.get("scale_by_keep", True)
    return drawn.div_(keep) if scales and keep > 0 else drawn


def _all_there(root: nn.Module, parts: tuple[Part, ...]) -> bool:
    return all(part.of(root) is not None for part in parts)


def _active(root: nn.Module, act: Activation) -> bool:
    return act.part is None or act.part.of(root) is not None


def _norm(root: nn.Module, norm: Norm) -> nn.Module | ConstantNorm | None:
    module = norm.part.of(root)
    if module is None:
        return None
    if norm.constant:
        return ConstantNorm(module)
    if module.training and not module.track_running_stats and module.running_mean is not None:
        return None
    return module


def _unit(root: nn.Module, spec: ConvUnit, size: torch.Size) -> Unit | None:
    conv = spec.conv.part.of(root)
    if conv is None or not _active(root, spec.act):
        return None
    padding = "same" if spec.conv.same else None
    if spec.conv.pad is not None:
        padding = _static_padding(root, spec.conv, conv, size)
        if padding is None:
            return None
    norm = gate = scale = None
    if spec.norm is not None:
        norm = _norm(root, spec.norm)
        if norm is None:
            return None
    if spec.gate is not None:
        weights = _gate_weights(root, spec.gate)
        if weights is None:
            return None
        gate = _GateWeights(weights)
    if spec.scale is not None:
        part, name = spec.scale
        module = part.of(root)
        if module is None:
            return None
        scale = module._parameters[name]
    key = spec.conv.part.name
    return Unit(key, conv, norm, spec.act.name, gate, scale, padding=padding, vouched=True)


def _static_padding(root: nn.Module, spec: Conv, conv: nn.Conv2d, size: torch.Size) -> tuple | str | None:
    """The padding of a module of zeros before a convolution, as the ops take it: symmetric, or what SAME would add.

    The size is that of the block's input: what lies between changes it only where this convolution is not the first
    spatial one, which the reader of programs refuses.
    """
    pad = spec.pad.of(root)
    if pad is None or conv.padding not in ((0, 0), "valid"):
        return None
    left, right, top, bottom = pad.padding
    if (left, top) == (right, bottom) and min(left, top) >= 0:
        return top, left
    for i, given in enumerate(((top, bottom), (left, right))):
        if tuple(pad_before_after(size[i], conv.kernel_size[i], conv.stride[i], SAME, conv.dilation[i])) != given:
            return None
    return "same"


def _gate_weights(root: nn.Module, program: GateProgram) -> SqueezeExcite | None:
    reduce, expand = program.reduce.of(root), program.expand.of(root)
    if reduce is None or expand is None or not (_active(root, program.act) and _active(root, program.gate)):
        return None
    if not _all_there(root, program.around):
        return None
    first, second = reduce._parameters, expand._parameters
    return SqueezeExcite(
        first["weight"], first["bias"], second["weight"], second["bias"], program.act.name, program.gate.name
    )
