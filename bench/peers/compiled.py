"""torch.compile in its default mode."""

from __future__ import annotations

import copy

import torch

from bench.case import Case, Provider

from .base import Peer, register


@register
class Compiled(Peer):
    name = "compile"
    summary = "torch.compile, default mode, static shapes, channels_last"
    place = 3
    compiles = True

    def prepare(self, case: Case) -> Provider:
        # Dynamo gives up on a function after a few recompilations; every case is a program of its own.
        torch.compiler.reset()
        module = copy.deepcopy(case.module).to(memory_format=torch.channels_last)
        return Provider(torch.compile(module, dynamic=False), case.channels_last_inputs)
