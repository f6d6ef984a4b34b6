"""effops on its default backend, whole networks as one call, and training in its low-memory mode."""

from __future__ import annotations

import importlib

from bench import device
from bench.case import Case, Provider
from bench.training.step import TrainingCase, TrainingStep

from .base import EvalPeer, TrainingPeer, register


@register
class Effops(EvalPeer, TrainingPeer):
    name = "effops"
    summary = "effops on the backend that it chooses itself"
    place = 0
    imports = ("torch", "effops")

    def missing(self) -> str | None:
        try:
            importlib.import_module("effops")
        except ImportError as error:
            return f"effops is not importable: {error}"
        return None

    def prepare(self, case: Case) -> Provider:
        return Provider(case.fused(), case.channels_last_inputs)

    def prepare_training(self, case: TrainingCase) -> TrainingStep:
        return case.step(case.fused(), case.channels_last_images)


@register
class EffopsCompiled(EvalPeer):
    name = "effops_compiled"
    summary = "effops.compile_cpu: a whole network as one call"
    place = 0
    single_ops = False

    def missing(self) -> str | None:
        try:
            effops = importlib.import_module("effops")
        except ImportError as error:
            return f"effops is not importable: {error}"
        if not hasattr(effops, "compile_cpu"):
            return "this effops has no effops.compile_cpu"
        return "effops.compile_cpu is for CPUs" if device.current().type != "cpu" else None

    def prepare(self, case: Case) -> Provider:
        from effops import compile_cpu

        inputs = case.channels_last_inputs
        return Provider(compile_cpu(case.fused(), inputs[0][0]), inputs)


@register
class EffopsLow(TrainingPeer):
    name = "effops_low"
    summary = "effops training in its low-memory mode"
    place = 0

    def missing(self) -> str | None:
        try:
            nn = importlib.import_module("effops.nn")
        except ImportError as error:
            return f"effops is not importable: {error}"
        return None if hasattr(nn, "set_memory") else "this effops has no low-memory mode (effops.nn.set_memory)"

    def prepare_training(self, case: TrainingCase) -> TrainingStep:
        from effops.nn import set_memory

        module = case.fused()
        set_memory(module, "low")
        return case.step(module, case.channels_last_images)
