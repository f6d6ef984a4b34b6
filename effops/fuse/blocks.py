"""Finds the program of a module with a forward of its own: a guess from its parts, accepted when a trial run agrees."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from effops.nn.folding import FoldCache
from effops.nn.units import kind
from effops.ops.backends import backend

from . import trial
from .chains import candidates, draft
from .leaves import Reader, Unreadable, own_settings
from .program import ChainProgram, Part, settings
from .run import run

# More parts than any block of these families has: a stage or a network, which is read block by block.
_MOST_CONVS, _MOST_LEAVES = 8, 60
_RATE = 0.4


@dataclass(frozen=True)
class Found:
    """A program, and why it runs in eval alone, or None."""

    program: ChainProgram
    eval_only: str | None = None


class NotABlock(Exception):
    """A module too large to be a block, or without anything to fuse: no reason to report."""


def find(module: nn.Module, reader: Reader) -> Found:
    """The program that computes what a module does.

    Raises:
        Unreadable: it holds something that no program can; or its forward is none of those that were tried.
        NotABlock: it is no block at all.
    """
    convs = sum(isinstance(m, nn.Conv2d) for m in module.modules())
    if not 1 <= convs <= _MOST_CONVS or sum(1 for _ in module.modules()) > _MOST_LEAVES:
        raise NotABlock
    if type(module).forward is nn.Module.forward:
        raise NotABlock
    argument, rate_argument = _arguments(module)
    drafts = draft(reader.leaves(module))
    drafts.around.append(Part((), type(module), settings(module)))
    possible = list(candidates(drafts, rate_argument, argument))
    # Blocks that differ in nothing but numbers of channels need one trial run, made with the first.
    kept = reader.blocks.setdefault(_signature(module, possible), {})
    if "error" in kept:
        raise Unreadable(kept["error"])
    if "place" not in kept:
        try:
            kept["place"], kept["eval only"] = _Trial(module, rate_argument).first(possible)
        except Unreadable as error:
            kept["error"] = str(error)
            raise
    return Found(possible[kept["place"]], kept["eval only"])


def _signature(module: nn.Module, possible: list[ChainProgram]) -> tuple:
    """All that may decide what a forward computes, but for numbers of channels and values of tensors."""
    own = frozenset(nn.Module().__dict__)
    parts = []
    for name, part in module.named_modules():
        if isinstance(part, nn.Conv2d):
            geometry = part.kernel_size, part.stride, str(part.padding), part.dilation, part.padding_mode
            kept = (*geometry, kind(part, vouched=True), part.bias is None, own_settings(part))
        elif isinstance(part, nn.modules.batchnorm._BatchNorm):
            kept = (part.affine, part.track_running_stats, own_settings(part))
        else:
            kept = tuple((key, _value(value)) for key, value in part.__dict__.items() if key not in own)
        parts.append((name, type(part), kept))
    return tuple(parts), tuple(program.residual for program in possible), len(possible)


def _value(value: Any) -> Any:
    """A value to compare by; an object that nothing is known of is equal to itself alone."""
    if isinstance(value, (bool, int, float, str, type(None))):
        return type(value), value
    if type(value) in (list, tuple) or hasattr(value, "_fields"):
        return type(value), tuple(_value(one) for one in value)
    return "object", id(value)


def _arguments(module: nn.Module) -> tuple[str, str | None]:
    """Name of the forward's input, and of the argument with the rate of stochastic depth, if there is one."""
    try:
        first, *others = inspect.signature(module.forward).parameters.values()
    except (TypeError, ValueError):
        raise Unreadable("its forward takes no input") from None
    if any(p.default is p.empty and p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD) for p in others):
        raise Unreadable(f"its forward takes more than an image: {', '.join(p.name for p in (first, *others))}")
    return first.name, next((p.name for p in others if "drop" in p.name), None)


class _Trial:
    """Runs of a copy of a module beside the programs that it may be."""

    def __init__(self, module: nn.Module, rate_argument: str | None) -> None:
        try:
            self.twin = trial.trial_copy(module)
        except Exception as error:
            raise Unreadable(f"no copy of it can be made for a trial run: {error}") from error
        channels = next(m.in_channels for m in self.twin.modules() if isinstance(m, nn.Conv2d))
        reach = max(
            d * (k - 1) + 1
            for m in self.twin.modules()
            if isinstance(m, nn.Conv2d)
            for k, d in zip(m.kernel_size, m.dilation, strict=True)
        )
        generator = torch.Generator().manual_seed(0)
        # Odd and even in both directions: padding may depend on it.
        self.inputs = [
            torch.randn(3, channels, reach + h, reach + w, dtype=torch.float64, generator=generator)
            for h, w in ((1, 2), (2, 1), (reach % 2 + 2, reach % 2 + 2))
        ]
        self.extra = {rate_argument: _RATE} if rate_argument else {}
        self.start = {key: value.clone() for key, value in self.twin.state_dict().items()}

    def first(self, possible: list[ChainProgram]) -> tuple[int, str | None]:
        """Place of the first program that agrees, and why fused ops do not run it in training, or None.

        Raises:
            Unreadable: none agrees.
        """
        expected = self._expected(self.inputs, training=False)
        # Of even size: what pads by a module of its own is fused there. Padding has been looked at in eval.
        last = self.inputs[-1:]
        in_training: list[dict] = []
        wrong: set[tuple] = set()
        closest = None
        for place, program in enumerate(possible):
            in_eval = program.units, program.residual
            if in_eval in wrong:
                continue
            try:
                self._agree(program, self.inputs, expected, training=False)
            except trial.Differs as error:
                wrong.add(in_eval)
                closest = closest or f"its forward is not its parts in a known order: {error}"
                continue
            in_training = in_training or self._expected(last, training=True)
            try:
                self._agree(program, last, in_training, training=True)
            except _CannotRun as error:
                return place, str(error)
            except trial.Differs as error:
                closest = f"it agrees with its parts in eval, not in training: {error}"
                continue
            return place, None
        raise Unreadable(closest or "its parts are in no known order")

    def _expected(self, inputs: list[Tensor], *, training: bool) -> list[dict]:
        try:
            return [self._outcome(self._module, x, training=training) for x in inputs]
        except Exception as error:
            raise Unreadable(f"its trial run failed: {type(error).__name__}: {error}") from error

    def _agree(self, program: ChainProgram, inputs: list[Tensor], expected: list[dict], *, training: bool) -> None:
        ran = False
        for x, wanted in zip(inputs, expected, strict=True):
            try:
                found = self._outcome(self._fused(program), x, training=training)
            except _CannotRun:
                continue
            except trial.Differs:
                raise
            except Exception as error:
                raise trial.Differs(f"{type(error).__name__}: {error}") from error
            ran = True
            if found.keys() != wanted.keys():
                raise trial.Differs("other parameters take part")
            largest = max(t.abs().max().item() for t in wanted.values())
            for key, value in wanted.items():
                # A gradient that is zero but for rounding is measured by the others.
                trial.assert_same(found[key], value, key, floor=1e-3 * largest)
        if not ran:
            raise _CannotRun(_why_not(program, self.twin, training))

    def _module(self, x: Tensor) -> Tensor:
        return self.twin(x, **self.extra)

    def _fused(self, program: ChainProgram) -> Callable[[Tensor], Tensor]:
        def fused(x: Tensor) -> Tensor:
            with backend("reference"):
                y = run(self.twin, program, x, FoldCache(), rate=_RATE if self.extra else None)
            if y is None:
                raise _CannotRun
            return y

        return fused

    def _outcome(self, call: Callable[[Tensor], Tensor], x: Tensor, *, training: bool) -> dict[str, Tensor]:
        """What a call gives; in training gradients and moved statistics, too."""
        twin = self.twin.train(training)
        if training:
            twin.load_state_dict(self.start)
        x = x.clone().requires_grad_(training)
        before = [settings(part) for part in twin.modules()]
        with trial.own_random_numbers(), torch.autocast("cpu", enabled=False), torch.set_grad_enabled(training):
            y = call(x.clone() if training else x)
        if not isinstance(y, Tensor):
            raise trial.Differs(f"it returns {type(y).__name__}, no tensor")
        if [settings(part) for part in twin.modules()] != before:
            raise trial.Differs("it changes attributes of its own when it runs")
        if not training:
            return {"its output": y}
        found = {"its output": y.detach()}
        weights = torch.linspace(-1, 1, y.numel(), dtype=y.dtype).view(y.shape)
        parameters = {name: p for name, p in twin.named_parameters() if p.requires_grad}
        grads = torch.autograd.grad((y * weights).sum(), [x, *parameters.values()], allow_unused=True)
        for name, grad in zip(["x", *parameters], grads, strict=True):
            if grad is not None:
                found[f"the gradient of {name}"] = grad
        found |= {f"buffer {name}": b.double().clone() for name, b in twin.named_buffers()}
        return found


class _CannotRun(trial.Differs):
    """The ops cannot run a program in this mode."""


def _why_not(program: ChainProgram, root: nn.Module, training: bool) -> str:
    for unit in program.units:
        conv = unit.conv.part.of(root)
        if conv is not None and kind(conv, vouched=True) is None:
            return f"{unit.conv.part.name} has {conv.groups} groups for {conv.in_channels} channels"
        if training and unit.norm is None:
            return f"{unit.conv.part.name} has no batch norm"
        if training and conv is not None and conv.bias is not None:
            return f"{unit.conv.part.name} has a bias before its batch norm"
    return "no fused op runs these parts"
