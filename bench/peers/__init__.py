"""The peers. A peer is one module in this package with one class marked :func:`register`; nothing else names
it.

To add one (ONNX Runtime, OpenVINO, another compile mode, a GPU): write ``bench/peers/<name>.py``, derive a
class from :class:`EvalPeer`, :class:`TrainingPeer` or both, import what it needs inside its methods, and say
in ``missing`` what is not installed.
"""

from __future__ import annotations

import importlib
import pkgutil
from typing import TypeVar

from .base import REGISTRY, EvalPeer, Peer, TrainingPeer, register

__all__ = ["EvalPeer", "Peer", "TrainingPeer", "register", "registry"]

P = TypeVar("P", bound=Peer)


def registry(kind: type[P] = Peer) -> dict[str, P]:
    """All peers of a kind by name, in their order of appearance in tables and plots."""
    for module in pkgutil.iter_modules(__path__):
        importlib.import_module(f"{__name__}.{module.name}")
    ordered = sorted(REGISTRY, key=lambda peer: (peer.place, peer.name))
    return {peer.name: peer for peer in ordered if isinstance(peer, kind)}
