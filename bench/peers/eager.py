"""Eager PyTorch in both memory layouts."""

from __future__ import annotations

import copy

import torch

from bench.case import Case, Provider

from .base import Peer, register


@register
class Eager(Peer):
    name = "eager"
    summary = "PyTorch as it comes: eager, NCHW"
    place = 1

    def prepare(self, case: Case) -> Provider:
        return Provider(case.module, case.inputs)


@register
class EagerChannelsLast(Peer):
    name = "channels_last"
    summary = "eager PyTorch with weights and images in channels_last"
    place = 2

    def prepare(self, case: Case) -> Provider:
        module = copy.deepcopy(case.module).to(memory_format=torch.channels_last)
        return Provider(module, case.channels_last_inputs)
