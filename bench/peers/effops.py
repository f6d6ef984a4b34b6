"""effops on its default backend, the same without a plan for the whole network, and training in its low-memory mode."""

from __future__ import annotations

import importlib

from torch import nn

from bench import device
from bench.case import Case, Function, Provider
from bench.training.step import TrainingCase, TrainingStep

from .base import EvalPeer, TrainingPeer, register


class _WithEffops(EvalPeer):
    imports = ("torch", "effops")

    def missing(self) -> str | None:
        try:
            importlib.import_module("effops")
        except ImportError as error:
            return f"effops is not importable: {error}"
        return None


class _Compiled(_WithEffops):
    def prepare(self, case: Case) -> Provider:
        function, inputs = self.function(case), case.channels_last_inputs
        if isinstance(function, nn.Module) and any(function.children()) and device.current().type == "cpu":
            from effops import compile_cpu

            compile_cpu(function, inputs[0][0])
        return Provider(function, inputs)

    def function(self, case: Case) -> Function:
        """effops' answer, before it is compiled."""
        return case.fused()


@register
class Effops(_Compiled, TrainingPeer):
    name = "effops"
    summary = "effops on the backend that it chooses itself; networks on CPUs as one call (effops.compile_cpu)"
    place = 0

    def prepare_training(self, case: TrainingCase) -> TrainingStep:
        return case.step(case.fused(), case.channels_last_images)


@register
class EffopsMapped(_Compiled):
    name = "effops_mapped"
    summary = "effops with its weights in a mapped file, which leave memory once they are packed; memory alone"
    place = 0
    single_ops = False
    saves_memory = True

    def function(self, case: Case) -> Function:
        assert case.mapped is not None, "the suite gives it a file of weights"
        return case.mapped()


@register
class EffopsModules(_WithEffops):
    name = "effops_modules"
    summary = "effops module by module, without effops.compile_cpu"
    place = 0
    single_ops = False

    def missing(self) -> str | None:
        reason = super().missing()
        return "the same as effops on GPUs" if reason is None and device.current().type != "cpu" else reason

    def prepare(self, case: Case) -> Provider:
        return Provider(case.fused(), case.channels_last_inputs)


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
