"""Goes through a model and decides what every part of it becomes, without changing anything."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import nn

from effops.nn.plain import NORMS
from effops.nn.squeeze_excite import SqueezeExcite
from effops.nn.units import UnitModule, kind

from . import blocks, networks, sequences
from .chains import title
from .leaves import Reader, Unreadable
from .program import (
    ChainProgram,
    GateProgram,
    NetworkProgram,
    NormProgram,
    Part,
    Program,
    SequenceProgram,
    Step,
    settings,
)
from .report import Row
from .shares import is_convolution
from .swap import FusedBlock, FusedModule, FusedSequence, fused_class
from .trial import own_random_numbers

_OWN_FORWARD = "its forward is its own, and no block that is known: only nn.Sequential and whole blocks are read"


@dataclass
class Plan:
    """What is to be done, and the rows that tell it."""

    swaps: list[tuple[nn.Module, Program]] = field(default_factory=list)
    rows: list[Row] = field(default_factory=list)


def plan(model: nn.Module) -> Plan:
    """What every part of a model becomes."""
    found = Plan()
    # Trial runs take gradients and random numbers, whatever surrounds the conversion.
    with torch.inference_mode(False), torch.enable_grad(), own_random_numbers():
        _Walk(found).module(model, "")
    return found


class _Walk:
    def __init__(self, found: Plan) -> None:
        self.found = found
        self.reader = Reader()
        self.seen: set[int] = set()

    def module(self, module: nn.Module, path: str, reason: str | None = None) -> None:
        """Decide about one module, and about those inside it where it stays as it is."""
        if id(module) in self.seen:
            return
        self.seen.add(id(module))
        if isinstance(module, FusedModule):
            self._already(module, path)
        elif isinstance(module, (UnitModule, SqueezeExcite)):
            self._row(path, type(module).__name__, "already fused", "a module of effops: runs fused as it is", (path,))
        elif isinstance(module, torch.jit.ScriptModule):
            self._left(path, type(module).__name__, "compiled by TorchScript: fuse the model first, then compile")
        else:
            refusal = _refusal(module)
            if refusal is None:
                reason = self._known(module, path) or reason
            if refusal is not None or reason is not _DONE:
                self._inside(module, path, refusal or reason)

    def _known(self, module: nn.Module, path: str) -> str | None:
        """Take a module on; gives _DONE, or why it stays as it is."""
        network = networks.find(module, self.reader)
        if network is not None:
            self._swap(module, network, path)
            taken = {name for step in network.pairs for name in step.items}
            self._children(module, path, taken)
            return _DONE
        if sequences.is_sequence(module):
            self._sequence(module, path)
            return _DONE
        if isinstance(module, nn.Conv2d) or type(module) in NORMS:
            return None
        try:
            program = self._alone(module)
            eval_only = None
            if program is None:
                found = blocks.find(module, self.reader)
                program, eval_only = found.program, found.eval_only
        except blocks.NotABlock:
            return None
        except Unreadable as error:
            return str(error)
        self._swap(module, program, path, eval_only)
        return _DONE

    def _alone(self, module: nn.Module) -> Program | None:
        """The program of a batch norm with activation, or of a squeeze-excite, on its own."""
        if "running_mean" in module._buffers:
            (norm, _), *others = self.reader.norm(module, ())
            acts = [leaf for leaf, _ in others if hasattr(leaf, "name") and leaf.name != "identity"]
            around = tuple(leaf.part for leaf, _ in others if leaf not in acts)
            if not acts:
                raise blocks.NotABlock
            return NormProgram(norm, acts[0], (*around, Part((), type(module), settings(module))))
        return self.reader.squeeze_excite(module, ())

    def _sequence(self, module: nn.Sequential, path: str) -> None:
        reasons: dict[str, str] = {}
        program = sequences.find(module, self.reader, reasons)
        if program is None:
            self._children(module, path, set(), reasons)
            return
        self._swap(module, program, path)
        taken = {name for step in program.steps if step.program for name in step.items}
        self._children(module, path, taken, reasons)

    def _inside(self, module: nn.Module, path: str, reason: str | None) -> None:
        """A module that stays as it is: its convolutions are left, what else it holds is looked at."""
        if is_convolution(module):
            self._left(path, _conv_text(module), reason or "a convolution alone: nothing to fuse it with")
            return
        convs = {name: child for name, child in module._modules.items() if is_convolution(child)}
        norms = any("running_mean" in child._buffers for child in module._modules.values() if child is not None)
        if convs:
            known = [conv for conv in convs.values() if isinstance(conv, nn.Conv2d)]
            eligible = norms and any(kind(conv, vouched=True) for conv in known)
            why = reason or (_OWN_FORWARD if norms else "no batch norm beside it: nothing to fuse it with")
            names = " + ".join(convs) if len(convs) < 4 else f"{len(convs)} convolutions"
            text = _conv_text(next(iter(convs.values()))) if len(convs) == 1 else f"{len(convs)} convolutions"
            self._left(f"{path}: {names}" if path else names, text, why, eligible)
        self._children(module, path, set(convs))

    def _children(self, module: nn.Module, path: str, taken: set[str], reasons: dict[str, str] | None = None) -> None:
        for name, child in module._modules.items():
            if child is None:
                continue
            if name in taken:
                self.seen.update(id(part) for part in child.modules())
            else:
                self.module(child, f"{path}.{name}" if path else name, (reasons or {}).get(name))

    def _swap(self, module: nn.Module, program: Program, path: str, eval_only: str | None = None) -> None:
        self.found.swaps.append((module, program))
        self._rows(module, program, path, "fused", eval_only)
        if not isinstance(program, (SequenceProgram, NetworkProgram)):
            self.seen.update(id(part) for part in module.modules())

    def _already(self, module: FusedModule, path: str) -> None:
        program = module._effops.program if module._effops else None
        if program is not None:
            self._rows(module, program, path, "already fused", None)
        steps = getattr(program, "steps", getattr(program, "pairs", ()))
        if isinstance(program, (SequenceProgram, NetworkProgram)) or program is None:
            self._children(module, path, {name for step in steps if step.program for name in step.items})

    def _rows(self, module: nn.Module, program: Program, path: str, state: str, eval_only: str | None) -> None:
        if isinstance(program, (SequenceProgram, NetworkProgram)):
            for step in getattr(program, "steps", getattr(program, "pairs", ())):
                if step.program is not None:
                    self._step_row(module, step, path, state)
            return
        name, detail = describe(module, program, eval_only)
        self._row(path, name, state, detail, (path,))

    def _step_row(self, module: nn.Module, step: Step, path: str, state: str) -> None:
        name, detail = describe(module, step.program, None)
        prefix = f"{path}." if path else ""
        items = (
            f"{step.items[0]} + {step.items[-1]}" if len(step.items) == 2 else f"{step.items[0]} to {step.items[-1]}"
        )
        text = path if len(step.items) == len(module._modules) else prefix + items
        text = prefix + step.items[0] if len(step.items) == 1 else text
        self._row(text, name, state, detail, tuple(prefix + item for item in step.items))

    def _row(self, path: str, name: str, state: str, detail: str, modules: tuple[str, ...]) -> None:
        self.found.rows.append(Row(path, name, state, detail, modules=modules))

    def _left(self, path: str, name: str, reason: str, eligible: bool = False) -> None:
        self.found.rows.append(Row(path, name, "left", reason, eligible))


# Stands for a reason where there is none: the module has been taken on.
_DONE = "done"


def _refusal(module: nn.Module) -> str | None:
    """Why the class of a module cannot be changed."""
    if "forward" in module.__dict__:
        return "its instance has a forward of its own"
    if isinstance(module, torch.fx.GraphModule):
        return "torch.fx has made its forward"
    if hasattr(module, "memory"):
        return "it has an attribute 'memory' of its own, which effops would use"
    try:
        fused_class(type(module), FusedSequence if sequences.is_sequence(module) else FusedBlock)
    except TypeError as error:
        return f"no class can be made from {type(module).__name__}: {error}"
    return None


def _conv_text(conv: nn.Module) -> str:
    if type(conv) is not nn.Conv2d:
        return type(conv).__name__
    groups = f", {conv.groups} groups" if conv.groups > 1 else ""
    return f"convolution {conv.kernel_size[0]}x{conv.kernel_size[1]}{groups}"


_OPS = {"pointwise": "pointwise_conv_act", "depthwise": "depthwise_conv_act", "dense": "conv_act"}


def describe(root: nn.Module, program: ChainProgram | NormProgram | GateProgram, eval_only: str | None) -> tuple:
    """What a module is called, and what it became."""
    if isinstance(program, GateProgram):
        return "squeeze-excite", "squeeze_excite"
    if isinstance(program, NormProgram):
        return "batch norm-act", "batch_norm_act"
    convs = [root.get_submodule(unit.conv.part.name) for unit in program.units]
    kinds = [kind(conv, vouched=True) for conv in convs]
    name = title(program, kinds)
    gated = any(unit.gate for unit in program.units)
    if name.startswith(("inverted residual", "depthwise separable")):
        ops = "mbconv"
    elif name.startswith("fused inverted residual") and not gated:
        ops = "fused_mbconv"
    else:
        ops = ", ".join(_OPS[of] for of in kinds)
    bare = next(
        (unit for unit, conv in zip(program.units, convs, strict=True) if not unit.norm or conv.bias is not None), None
    )
    if eval_only is None and bare is not None:
        eval_only = f"{bare.conv.part.name} has " + ("a bias" if bare.norm else "no batch norm")
    training = "trains as conv_bn_chain" if eval_only is None else f"trains by its modules ({eval_only})"
    return name, f"{ops}; {training}"
