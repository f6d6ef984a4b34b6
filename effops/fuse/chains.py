"""Puts what was read in a module into units: convolution, batch norm, activation, and squeeze-excite before it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from torch import nn

from effops.nn.units import kind
from effops.ops.chain import DENSE, DEPTHWISE, POINTWISE
from effops.ops.spec import ACTIVATIONS

from .leaves import Leaf, Matrix, Scale, Unreadable, gate_functions, squeezes
from .program import Activation, ChainProgram, Conv, ConvUnit, Drop, GateProgram, Norm, Part

_NO_ACT = Activation()


@dataclass
class Draft:
    """A unit while it is put together, with the convolution's module and the leaves that it is made of."""

    unit: ConvUnit
    module: nn.Module
    leaves: list[Leaf] = field(default_factory=list)
    has_act: bool = False

    @property
    def kind(self) -> str | None:
        return kind(self.module, vouched=True)


@dataclass
class Drafts:
    """A module's units as their order of registration suggests them, and what could not be placed."""

    units: list[Draft] = field(default_factory=list)
    acts: list[Activation] = field(default_factory=list)
    drop: Drop | None = None
    around: list[Part] = field(default_factory=list)


def draft(leaves: list[tuple[Leaf, nn.Module]]) -> Drafts:
    """Units in the order of registration.

    Raises:
        Unreadable: there is something that no unit has a place for.
    """
    found = Drafts()
    gate: GateProgram | None = None
    zeros: Part | None = None
    for leaf, module in leaves:
        last = found.units[-1] if found.units else None
        if isinstance(leaf, Conv):
            if zeros is not None and module.padding in ((0, 0), "valid"):
                leaf = replace(leaf, pad=zeros)
            elif zeros is not None:
                found.around.append(zeros)
            found.units.append(Draft(ConvUnit(leaf, gate=gate), module, [leaf]))
            gate = zeros = None
        elif isinstance(leaf, Matrix):
            found.units.append(Draft(ConvUnit(Conv(leaf.part)), module, [leaf]))
        elif isinstance(leaf, Norm):
            if last is None or last.unit.norm is not None or last.has_act or isinstance(last.module, nn.Linear):
                raise Unreadable(f"{leaf.part.name} (batch norm) does not follow a convolution")
            last.unit = replace(last.unit, norm=leaf)
            last.leaves.append(leaf)
        elif isinstance(leaf, Activation):
            found.acts.append(leaf)
            if last is not None and not last.has_act:
                last.unit = replace(last.unit, act=leaf)
                last.has_act = True
                last.leaves.append(leaf)
        elif isinstance(leaf, GateProgram):
            if gate is not None:
                raise Unreadable("two squeeze-excites follow each other")
            gate = leaf
        elif isinstance(leaf, Scale):
            if last is None or last.has_act or last.unit.scale is not None:
                raise Unreadable(f"{leaf.part.name} scales what no batch norm without activation gives")
            last.unit = replace(last.unit, scale=(leaf.part, leaf.name))
        elif isinstance(leaf, Drop):
            if found.drop is not None:
                raise Unreadable("two dropouts in one block")
            found.drop = leaf
        elif leaf.part.type is nn.ZeroPad2d and not leaf.passes:
            zeros = leaf.part
        else:
            found.around.append(leaf.part)
    if gate is not None:
        raise Unreadable("its squeeze-excite is not before a convolution")
    return found


def candidates(drafts: Drafts, rate_argument: str | None, argument: str) -> Iterator[ChainProgram]:
    """What a block of these parts may compute, likeliest first."""
    acts = [act for act in drafts.acts if act.name in ACTIVATIONS]
    for units, gate_drafts in _gated(drafts.units):
        if not units or any(isinstance(d.module, nn.Linear) for d in units):
            continue
        _check_pads(units)
        fits = _channels(units[0])[0] == _channels(units[-1])[1] and all(d.module.stride == (1, 1) for d in units)
        for given in _activations(units, acts):
            for gated in _with_gate(given, units, gate_drafts, drafts.acts):
                for residual in (True, False) if fits else (False,):
                    drops: list[Drop | None] = [drafts.drop] if residual else [None]
                    if rate_argument is not None:
                        drops = [Drop(None, rate_argument, "floor"), Drop(None, rate_argument, "bernoulli")]
                    for drop in drops:
                        yield ChainProgram(tuple(gated), residual, drop, tuple(drafts.around), argument)


def _channels(d: Draft) -> tuple[int, int]:
    return d.module.in_channels, d.module.out_channels


def _gated(units: list[Draft]) -> Iterator[tuple[list[Draft], tuple[int, Draft, Draft] | None]]:
    """The units, with two layers of a squeeze-excite taken out where there is one among them: (place, W1, W2)."""
    for i in range(1, len(units) - 2):
        reduce, expand = units[i], units[i + 1]
        bare = reduce.unit.norm is None and expand.unit.norm is None
        if bare and squeezes(reduce.module, expand.module):
            yield [*units[:i], *units[i + 2 :]], (i, reduce, expand)
            return
    yield units, None


def _activations(units: list[Draft], acts: list[Activation]) -> Iterator[list[ConvUnit]]:
    """The units with their activations: as registered, else one activation after every unit, or after all but one."""
    literal = [d.unit for d in units]
    if all(unit.act.name in ACTIVATIONS for unit in literal):
        yield literal
    distinct = {act.name: act for act in reversed(acts) if act.name != "identity"}
    choices = list(distinct.values()) or [Activation(name) for name in ACTIVATIONS[1:]]
    bare = [replace(unit, act=_NO_ACT) for unit in literal]
    for act in choices:
        everywhere = [unit if unit.scale else replace(unit, act=act) for unit in bare]
        for given in ([*everywhere[:-1], bare[-1]], everywhere):
            if given != literal:
                yield given
    if bare != literal:
        yield bare


def _with_gate(
    given: list[ConvUnit], units: list[Draft], taken: tuple[int, Draft, Draft] | None, acts: list[Activation]
) -> Iterator[list[ConvUnit]]:
    if taken is None:
        yield given
        return
    place, reduce, expand = taken
    for act, gate in gate_functions(acts):
        program = GateProgram(reduce.unit.conv.part, expand.unit.conv.part, act, gate)
        yield [*given[:place], replace(given[place], gate=program), *given[place + 1 :]]


def _check_pads(units: list[Draft]) -> None:
    """Zeros of a module are compared with the block's input: nothing before them may change the size."""
    for i, d in enumerate(units):
        if d.unit.conv.pad is not None and any(before.kind != POINTWISE for before in units[:i]):
            raise Unreadable(f"{d.unit.conv.pad.name} pads after a spatial convolution")


# Units that one op runs in eval; the longest first.
_WHOLE = ((POINTWISE, DEPTHWISE, POINTWISE), (DEPTHWISE, POINTWISE), (DENSE, POINTWISE))


def whole_blocks(units: list[Draft]) -> Iterator[list[Draft]]:
    """A sequence in pieces: those that one op runs, and single units between them."""
    i = 0
    while i < len(units):
        kinds = tuple(d.kind for d in units[i : i + 3])
        size = next((len(whole) for whole in _WHOLE if kinds[: len(whole)] == whole), 1)
        yield units[i : i + size]
        i += size


def title(program: ChainProgram, kinds: list[str | None]) -> str:
    """What a block is called."""
    shape = tuple(kinds)
    named = {
        (POINTWISE, DEPTHWISE, POINTWISE): "inverted residual",
        (DEPTHWISE, POINTWISE): "depthwise separable",
        (DENSE, POINTWISE): "fused inverted residual",
    }
    name = named.get(shape)
    if name is None and len(shape) == 1:
        name = "conv-bn-act" if program.units[0].norm else "conv-act"
    if name is None and len(shape) > 1 and set(shape) <= {POINTWISE, DEPTHWISE}:
        name = "universal inverted residual"
    gated = any(unit.gate for unit in program.units)
    return (name or f"{len(shape)} convolutions") + (" with squeeze-excite" if gated else "")
