"""torch.compile, in its default mode and, on GPUs, with its search for the fastest kernels."""

from __future__ import annotations

import copy
from typing import ClassVar

import torch

from bench import device
from bench.case import Case, Provider
from bench.training.step import TrainingCase, TrainingStep

from .base import EvalPeer, TrainingPeer, register


@register
class Compiled(EvalPeer, TrainingPeer):
    name = "compile"
    summary = "torch.compile, default mode, static shapes, channels_last"
    place = 3
    compiles = True
    # torch.compile would import these on its first use.
    imports = ("torch", "torch._dynamo", "torch._inductor.compile_fx")
    mode: ClassVar[str | None] = None

    def prepare(self, case: Case) -> Provider:
        # Dynamo gives up on a function after a few recompilations; every case is a program of its own.
        torch.compiler.reset()
        module = copy.deepcopy(case.module).to(memory_format=torch.channels_last)
        return Provider(torch.compile(module, dynamic=False, mode=self.mode), case.channels_last_inputs)

    def prepare_training(self, case: TrainingCase) -> TrainingStep:
        torch.compiler.reset()
        module = copy.deepcopy(case.module).to(memory_format=torch.channels_last)
        return case.step(
            module, case.channels_last_images, forward=torch.compile(module, dynamic=False, mode=self.mode)
        )


@register
class Frozen(EvalPeer):
    name = "freezing"
    summary = "torch.compile with its weights frozen (Inductor's freezing), static shapes, channels_last; CPUs only"
    place = 5
    compiles = True
    single_ops = False
    imports = Compiled.imports

    def missing(self) -> str | None:
        return None if device.current().type == "cpu" else "it packs weights for CPU kernels"

    def prepare(self, case: Case) -> Provider:
        torch.compiler.reset()
        module = copy.deepcopy(case.module).to(memory_format=torch.channels_last)
        return Provider(torch.compile(module, dynamic=False, options={"freezing": True}), case.channels_last_inputs)


@register
class MaxAutotuned(Compiled):
    name = "max_autotune"
    summary = "torch.compile, mode max-autotune, static shapes, channels_last; GPUs only"
    place = 4
    mode = "max-autotune-no-cudagraphs"

    def missing(self) -> str | None:
        return None if device.current().type == "cuda" else "it searches among GPU kernels: --device cuda"
