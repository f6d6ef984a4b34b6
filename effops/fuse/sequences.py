"""Finds what runs together in a ``nn.Sequential``: its forward is known, no trial run of the whole is needed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from itertools import groupby

from torch import nn

from effops.nn.units import kind
from effops.ops.chain import POINTWISE
from effops.ops.spec import ACTIVATIONS

from .chains import Draft, whole_blocks
from .leaves import Inert, Leaf, Reader, Unreadable
from .program import (
    Activation,
    ChainProgram,
    Conv,
    ConvUnit,
    GateProgram,
    Norm,
    NormProgram,
    Part,
    Path,
    SequenceProgram,
    Step,
    has_hooks,
)

Leaves = list[tuple[Leaf, nn.Module]]


def is_sequence(module: nn.Module) -> bool:
    """Whether a module runs its items one after the other, as ``nn.Sequential`` does."""
    return isinstance(module, nn.Sequential) and type(module).forward is nn.Sequential.forward


@dataclass
class _Element:
    """Items that make up one thing: a unit, a batch norm with activation, a squeeze-excite; or one item as it is."""

    items: list[str]
    what: Draft | NormProgram | GateProgram | None = None
    around: list[Part] = field(default_factory=list)


def find(sequence: nn.Sequential, reader: Reader, reasons: dict[str, str]) -> SequenceProgram | None:
    """The items that run together, or None where none do.

    Args:
        reasons: filled with why items are left, by name.
    """
    elements: list[_Element] = []
    for name, item in sequence._modules.items():
        try:
            leaves = _leaves(item, (name,), reader)
        except Unreadable as error:
            reasons[name] = str(error)
            leaves = None
        if leaves is None:
            elements.append(_Element([name]))
        else:
            _add(elements, name, leaves)
    steps = tuple(_steps(_apart(elements)))
    return SequenceProgram(steps) if any(step.program for step in steps) else None


def of_modules(modules: dict[str, nn.Module], reader: Reader) -> Step | None:
    """The one step that these modules are, when they run one after the other; None where they are not one unit."""
    elements: list[_Element] = []
    for name, module in modules.items():
        leaves = _leaves(module, (name,), reader)
        if leaves is None:
            return None
        _add(elements, name, leaves)
    steps = list(_steps(elements))
    return steps[0] if len(steps) == 1 and steps[0].program else None


def _leaves(item: nn.Module, path: Path, reader: Reader) -> Leaves | None:
    """An item as leaves in the order in which they run; None for one that is no plain layer."""
    if is_sequence(item):
        if has_hooks(item):
            raise Unreadable(f"{'.'.join(path)} has hooks")
        found: Leaves = [(Inert(Part(path, type(item)), passes=True), item)]
        for name, child in item._modules.items():
            inner = _leaves(child, (*path, name), reader)
            if inner is None:
                return None
            found += inner
        return None if sum(isinstance(leaf, Conv) for leaf, _ in found) > 1 else found
    found = reader.leaf(item, path)
    if found is None:
        return None
    known = (Conv, Norm, Activation, GateProgram, Inert)
    good = all(isinstance(leaf, known) and (not isinstance(leaf, Inert) or leaf.passes) for leaf, _ in found)
    return found if good else None


def _add(elements: list[_Element], name: str, leaves: Leaves) -> None:
    """Append an item's leaves to the elements before them, or as new ones."""
    around = [leaf.part for leaf, _ in leaves if isinstance(leaf, Inert)]
    steps = [(leaf, module) for leaf, module in leaves if not isinstance(leaf, Inert)]
    if not steps:
        if elements and elements[-1].what is not None:
            elements[-1].items.append(name)
            elements[-1].around += around
        else:
            elements.append(_Element([name]))
        return
    touched = []
    for leaf, module in steps:
        last = elements[-1] if elements else _Element([])
        joined = _joined(last.what, leaf, module)
        if joined is None:
            last = _Element([], _new(leaf, module))
            elements.append(last)
        else:
            last.what = joined
        if name not in last.items:
            last.items.append(name)
            touched.append(last)
    for element in touched:
        element.around += around


def _new(leaf: Leaf, module: nn.Module) -> Draft | NormProgram | GateProgram | None:
    if isinstance(leaf, Conv):
        return Draft(ConvUnit(leaf), module)
    if isinstance(leaf, Norm):
        return NormProgram(leaf, Activation())
    return leaf if isinstance(leaf, GateProgram) else None


def _joined(before: object, leaf: Leaf, module: nn.Module) -> Draft | NormProgram | None:
    """What stands before together with the next leaf, or None where a new element begins."""
    if isinstance(before, GateProgram) and isinstance(leaf, Conv) and kind(module, vouched=True) == POINTWISE:
        return Draft(ConvUnit(leaf, gate=before), module)
    if isinstance(before, Draft) and isinstance(leaf, Norm) and before.unit.norm is None and not before.has_act:
        return replace(before, unit=replace(before.unit, norm=leaf))
    if isinstance(leaf, Activation) and leaf.name in ACTIVATIONS:
        if isinstance(before, Draft) and not before.has_act:
            return replace(before, unit=replace(before.unit, act=leaf), has_act=True)
        if isinstance(before, NormProgram) and before.act.part is None:
            return replace(before, act=leaf)
    return None


def _apart(elements: list[_Element]) -> Iterator[_Element]:
    """Elements that share an item with another one become that item as it is: a step runs whole items."""
    owners: dict[str, int] = {}
    for element in elements:
        for name in element.items:
            owners[name] = owners.get(name, 0) + 1
    done: set[str] = set()
    for element in elements:
        if all(owners[name] == 1 for name in element.items):
            yield element
            continue
        for name in element.items:
            if name not in done:
                done.add(name)
                yield _Element([name])


def _steps(elements: object) -> Iterator[Step]:
    for are_units, group in groupby(elements, key=lambda element: isinstance(element.what, Draft)):
        if are_units:
            yield from _unit_steps(list(group))
            continue
        for element in group:
            what = element.what
            if isinstance(what, NormProgram) and what.act.name != "identity":
                yield Step(tuple(element.items), replace(what, around=tuple(element.around)))
            else:
                yield from (Step((name,)) for name in element.items)


def _unit_steps(units: list[_Element]) -> Iterator[Step]:
    """Units one after the other, in pieces that one op runs."""
    of = {id(element.what): element for element in units}
    for piece in whole_blocks([element.what for element in units]):
        members = [of[id(draft)] for draft in piece]
        items = tuple(name for member in members for name in member.items)
        unit = piece[0].unit
        runs = all(draft.kind is not None for draft in piece)
        if not runs or (len(piece) == 1 and not (unit.norm or unit.act.name != "identity" or unit.gate)):
            yield from (Step((name,)) for name in items)
            continue
        around = tuple(part for member in members for part in member.around)
        yield Step(items, ChainProgram(tuple(draft.unit for draft in piece), around=around))
