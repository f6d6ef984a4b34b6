"""Eager PyTorch in both memory layouts."""

from __future__ import annotations

import copy

import torch

from bench.case import Case, Provider
from bench.training.step import TrainingCase, TrainingStep

from .base import EvalPeer, TrainingPeer, register


@register
class Eager(EvalPeer, TrainingPeer):
    name = "eager"
    summary = "PyTorch as it comes: eager, NCHW"
    place = 1

    def prepare(self, case: Case) -> Provider:
        return Provider(case.module, case.inputs)

    def prepare_training(self, case: TrainingCase) -> TrainingStep:
        return case.step(copy.deepcopy(case.module), case.images)


@register
class EagerChannelsLast(EvalPeer, TrainingPeer):
    name = "channels_last"
    summary = "eager PyTorch with weights and images in channels_last"
    place = 2

    def prepare(self, case: Case) -> Provider:
        module = copy.deepcopy(case.module).to(memory_format=torch.channels_last)
        return Provider(module, case.channels_last_inputs)

    def prepare_training(self, case: TrainingCase) -> TrainingStep:
        module = copy.deepcopy(case.module).to(memory_format=torch.channels_last)
        return case.step(module, case.channels_last_images)
