"""effops on its default backend."""

from __future__ import annotations

import importlib

from bench.case import Case, Provider

from .base import Peer, register


@register
class Effops(Peer):
    name = "effops"
    summary = "effops on the backend that it chooses itself"
    place = 0

    def missing(self) -> str | None:
        try:
            importlib.import_module("effops")
        except ImportError as error:
            return f"effops is not importable: {error}"
        return None

    def prepare(self, case: Case) -> Provider:
        return Provider(case.fused(), case.channels_last_inputs)
