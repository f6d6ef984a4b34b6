"""Convolutions with batch norm and activation, one after the other: how every block of these networks runs.

A block says what its units are; what runs them is chosen here, at every call: one op on folded weights in eval, one
chain of raw convolutions in training, or the modules one by one where neither may stand for them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal, Protocol

from torch import Tensor, nn

from effops.ops import backends
from effops.ops.blocks import fused_mbconv, mbconv
from effops.ops.chain import DENSE, DEPTHWISE, POINTWISE
from effops.ops.functional import conv_act, depthwise_conv_act, pointwise_conv_act, se_gate
from effops.ops.reference import accumulation_dtype
from effops.ops.training import BatchNorm, Layer, SqueezeExcite, conv_bn_chain

from .activation import activate, ops_have
from .conv import op_padding
from .drop_path import DropPath
from .folding import FoldCache, Folded, FoldingModule, tensors_of
from .plain import CONVS, NORMS, is_plain
from .prepared import Ran, State, prepare
from .sync_batch_norm import batch_norm_of


class Gate(Protocol):
    """A squeeze-excite module that fused ops can stand for."""

    def gate_weights(self) -> SqueezeExcite: ...

    def is_plain(self) -> bool: ...

    def parameters(self) -> Iterable[nn.Parameter]: ...

    def __call__(self, x: Tensor) -> Tensor: ...


def gate_of(module: nn.Module) -> Gate | None:
    """The squeeze-excite of a block, None for the identity that stands where there is none."""
    return None if is_plain(module, (nn.Identity,)) else module


@dataclass(slots=True)
class Unit:
    """``scale * act(bn(conv(se(x))))``.

    Attributes:
        key: name of the convolution inside the block.
        bn: None for a convolution without batch norm.
        act: name of the activation.
        se: squeeze-excite before the convolution, or None.
        scale: layer scale, (O,) or None; the activation is then the identity.
        padding: how the convolution pads, where a module of another make does not say it as torch's does.
        vouched: the caller has checked that fused ops may stand for conv and bn; they are not torch's own types.
        pool: a module after all that, or None: anti-aliasing, which halves the map.
    """

    key: str
    conv: nn.Module
    bn: nn.Module | None
    act: str
    se: Gate | None = None
    scale: Tensor | None = None
    padding: tuple[int, int] | Literal["same"] | None = None
    vouched: bool = False
    pool: nn.Module | None = None

    def op_padding(self) -> tuple[int, int] | Literal["same"]:
        return op_padding(self.conv) if self.padding is None else self.padding


@dataclass(slots=True)
class _FoldedUnit:
    kind: str
    unit: Unit
    weights: Folded
    act: str
    se: SqueezeExcite | None

    def geometry(self) -> dict:
        conv = self.unit.conv
        return {"stride": conv.stride, "padding": self.unit.op_padding(), "dilation": conv.dilation}


# The factor of every sample of a batch, or None: stochastic depth.
SampleScale = Callable[[Tensor], Tensor | None]


def run_units(
    units: Sequence[Unit],
    x: Tensor,
    folds: FoldCache | None,
    *,
    residual: bool = False,
    sample_scale: SampleScale | None = None,
    memory: str = "default",
) -> Tensor | None:
    """The units one after the other, by fused ops; None where the modules have to run one by one.

    They have to when one of them is not the plain torch module (replaced, parametrized, quantized) or has hooks, which
    a fused op would pass by, with another norm or an activation that no op has, and in training also without batch
    norm, with a bias in a convolution, or with groups.

    Args:
        folds: where the folded weights of an eval call are kept; None in training.
        residual: add x.
        sample_scale: stochastic depth of what is added to x, in training.
        memory: what is kept for the backward pass; see :func:`effops.nn.set_memory`.
    """
    if not all(ops_have(unit.act) for unit in units):
        return None
    folded = None if folds is None else _fold(units, folds)
    if folded is not None:
        return _run_folded(folded, x, residual)
    layers = _layers(units)
    if layers is None:
        return None
    scale = None if sample_scale is None else sample_scale(x)
    return conv_bn_chain(x, layers, residual=residual, sample_scale=scale, memory=memory)


class UnitModule(FoldingModule):
    """Base of modules that are units one after the other."""

    def _run(
        self,
        units: Callable[[], Sequence[Unit]],
        x: Tensor,
        *,
        residual: bool = False,
        drop_path: nn.Module | None = None,
        key: str = "",
    ) -> Tensor:
        """The units, and x added with ``residual``; drop_path works on what is added to x.

        Args:
            units: makes them; not called where an eval call like this one has been prepared.
            key: tells several sequences of one module apart.
        """
        if self.training:
            return self._run_units(units(), x, residual, drop_path)

        # Everything inside a block may matter; of a module with several sequences, what belongs to this one.
        def modules(made: Sequence[Unit]) -> list[nn.Module]:
            parts = [part for unit in made for part in (unit.conv, unit.bn) if part is not None]
            return parts if key else list(self.modules())[1:]

        compute = partial(self._run_units, x=x, residual=residual, drop_path=drop_path)
        return eval_call(self._folds, key, x, units, compute, lambda made, tensors: State(self, modules(made), tensors))

    def _run_units(self, units: Sequence[Unit], x: Tensor, residual: bool, drop_path: nn.Module | None) -> Tensor:
        for i, unit in enumerate(units):
            if unit.pool is not None:
                # No op pools: what lies before and what lies after run on their own. A halved map has no residual.
                x = unit.pool(self._run_units([*units[:i], replace(unit, pool=None)], x, False, None))
                return self._run_units(units[i + 1 :], x, False, None) if units[i + 1 :] else x
        folds = None if self.training else self._folds
        if drop_path is None or not residual:
            y = run_units(units, x, folds, residual=residual, memory=self.memory)
        elif is_plain(drop_path, (DropPath,)):
            scale = drop_path.sample_scale
            y = run_units(units, x, folds, residual=True, sample_scale=scale, memory=self.memory)
        else:
            y = None
        if y is None:
            y = run_modules(units, x, folds)
            if residual:
                y = (y if drop_path is None else drop_path(y)) + x
        return y


def eval_call(
    folds: FoldCache,
    key: str,
    x: Tensor,
    units: Callable[[], Sequence[Unit] | None],
    compute: Callable[[Sequence[Unit]], Tensor | None],
    state: Callable[[Sequence[Unit], Sequence[Tensor]], State],
) -> Tensor | None:
    """An eval call as it was prepared, else computed, and prepared for the next time where kernels were all it needed.

    Args:
        folds: where folded weights and prepared calls are kept.
        key: tells several sequences of one module apart.
        units: makes the units of x, or None where fused ops may not stand for the modules.
        compute: runs them.
        state: a snapshot of the modules behind the units and of the tensors that a call reads.
    """
    y = folds.calls.run(key, x)
    if y is not None:
        return y
    made = units()
    if made is None:
        return None
    if not folds.calls.wants(key, x):
        return compute(made)
    with backends.recording() as calls:
        y = compute(made)
    entries = [folds.get(u.key, u.conv, u.bn, u.scale, vouched=u.vouched) for u in made] if calls else [None]
    if y is None or None in entries:
        return y
    gates = [t for unit in made if unit.se is not None for t in unit.se.parameters()]
    tensors = [tensor for unit in made for tensor in tensors_of(unit.conv, unit.bn, unit.scale)]
    try:
        snapshot = folds.calls.state(key) or state(made, tensors + gates)
    except RuntimeError:
        return y
    constants = [t for folded in entries for t in folded if t is not None] + gates
    prepared = prepare(Ran(x, y, calls), constants, snapshot)
    if prepared is not None:
        folds.calls.keep(key, prepared)
    return y


def run_modules(units: Sequence[Unit], x: Tensor, folds: FoldCache | None = None) -> Tensor:
    """The units one after the other, module by module; what surrounds them is the caller's.

    With folds, in eval, depthwise and pointwise convolutions run by ops all the same where they are plain.
    """
    for unit in units:
        x = _convolve(unit, x if unit.se is None else unit.se(x), folds)
        x = activate(x if unit.bn is None else unit.bn(x), unit.act)
        if unit.scale is not None:
            x = x * unit.scale.view(-1, 1, 1)
    return x


def _convolve(unit: Unit, x: Tensor, folds: FoldCache | None) -> Tensor:
    of = None if folds is None else kind(unit.conv, vouched=unit.vouched)
    if of not in (DEPTHWISE, POINTWISE):
        return unit.conv(x)
    weight, bias = folds.get(unit.key, unit.conv, None, vouched=unit.vouched)
    if of == POINTWISE:
        return pointwise_conv_act(x, weight, bias, act="identity")
    geometry = {"stride": unit.conv.stride, "padding": unit.op_padding(), "dilation": unit.conv.dilation}
    return depthwise_conv_act(x, weight, bias, **geometry, act="identity")


def kind(conv: nn.Module, *, vouched: bool = False) -> str | None:
    """Which ops run a convolution: "pointwise", "depthwise", "dense", or None for a module that none runs."""
    if not (vouched or is_plain(conv, CONVS)) or conv.padding_mode != "zeros":
        return None
    if conv.groups == 1:
        plain = conv.kernel_size == (1, 1) and conv.stride == (1, 1) and conv.padding in ((0, 0), "same", "valid")
        return POINTWISE if plain else DENSE
    return DEPTHWISE if conv.groups == conv.in_channels == conv.out_channels else None


def _is_gate(module: Gate | nn.Module) -> bool:
    """Whether fused ops may stand for it: not for just any module that was put in the place of squeeze-excite."""
    return hasattr(module, "gate_weights") and module.is_plain()


def _fold(units: Sequence[Unit], folds: FoldCache) -> list[_FoldedUnit] | None:
    found = []
    for unit in units:
        of = kind(unit.conv, vouched=unit.vouched)
        if of is None or not (unit.se is None or (of == POINTWISE and _is_gate(unit.se))):
            return None
        weights = folds.get(unit.key, unit.conv, unit.bn, unit.scale, vouched=unit.vouched)
        if weights is None:
            return None
        found.append(_FoldedUnit(of, unit, weights, unit.act, unit.se and unit.se.gate_weights()))
    return found


def _run_folded(units: list[_FoldedUnit], x: Tensor, residual: bool) -> Tensor:
    y, pooled = x, None
    for i, unit in enumerate(units):
        # A block with one more convolution before it is whole behind that one, unless x itself is still to be added.
        whole = None if residual and i > 0 else _run_whole(units[i:], y, residual)
        if whole is not None:
            return whole
        last = i == len(units) - 1
        if unit.kind == DEPTHWISE:
            pool = not last and units[i + 1].se is not None
            y = depthwise_conv_act(y, *unit.weights, **unit.geometry(), act=unit.act, pool=pool)
            y, pooled = y if pool else (y, None)
        elif unit.kind == DENSE:
            y = conv_act(y, *unit.weights, **unit.geometry(), act=unit.act)
        else:
            gate = _gate(unit.se, y, pooled)
            added = x if residual and last else None
            y = pointwise_conv_act(y, *unit.weights, act=unit.act, gate=gate, residual=added)
    return y + x if residual and units[-1].kind != POINTWISE else y


def _run_whole(units: list[_FoldedUnit], x: Tensor, residual: bool) -> Tensor | None:
    """One op for the whole block, or None where there is no such op."""
    kinds = tuple(unit.kind for unit in units)
    if kinds == (DENSE, POINTWISE) and units[1].se is None:
        expand, project = units
        tail = {"residual": residual, "project_act": project.act}
        return fused_mbconv(x, expand.weights, project.weights, **expand.geometry(), act=expand.act, **tail)
    if kinds not in ((DEPTHWISE, POINTWISE), (POINTWISE, DEPTHWISE, POINTWISE)):
        return None
    *expand, depthwise, project = units
    if expand and (expand[0].act != depthwise.act or expand[0].se is not None):
        return None
    return mbconv(
        x,
        expand[0].weights if expand else None,
        depthwise.weights,
        project.weights,
        **depthwise.geometry(),
        act=depthwise.act,
        squeeze_excite=project.se,
        residual=residual,
        project_act=project.act,
    )


def _gate(se: SqueezeExcite | None, y: Tensor, pooled: Tensor | None) -> Tensor | None:
    if se is None:
        return None
    if pooled is None:
        pooled = y.mean((2, 3), dtype=accumulation_dtype(y))
    weights = se.reduce_weight, se.reduce_bias, se.expand_weight, se.expand_bias
    return se_gate(pooled, *weights, act=se.act, gate=se.gate)


def _layers(units: Sequence[Unit]) -> list[Layer] | None:
    found = []
    for i, unit in enumerate(units):
        of, bn, se = kind(unit.conv, vouched=unit.vouched), unit.bn, unit.se
        if of is None or bn is None or unit.conv.bias is not None or not (unit.vouched or is_plain(bn, NORMS)):
            return None
        if (of == DENSE and i > 0) or not (se is None or (of == POINTWISE and i > 0 and _is_gate(se))):
            return None
        conv, weights = unit.conv, se and se.gate_weights()
        norm = _scaled(batch_norm_of(bn), unit.scale)
        found.append(Layer(of, conv.weight, norm, conv.stride, unit.op_padding(), conv.dilation, unit.act, weights))
    return found


def _scaled(norm: BatchNorm, scale: Tensor | None) -> BatchNorm:
    """Layer scale is a factor of the batch norm's own weight and bias."""
    if scale is not None:
        norm.weight = scale if norm.weight is None else norm.weight * scale
        norm.bias = None if norm.bias is None else norm.bias * scale
    return norm
