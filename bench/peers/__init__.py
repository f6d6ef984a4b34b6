"""The peers. A peer is one module in this package with one class marked :func:`register`; nothing else names
it.

To add one (ONNX Runtime, OpenVINO, another compile mode, a GPU): write ``bench/peers/<name>.py``, derive a
class from :class:`Peer`, import what it needs inside its methods, and say in ``missing`` what is not
installed.
"""

from __future__ import annotations

import importlib
import pkgutil

from .base import REGISTRY, Peer, register

__all__ = ["Peer", "register", "registry"]


def registry() -> dict[str, Peer]:
    """All peers by name, in their order of appearance in tables and plots."""
    for module in pkgutil.iter_modules(__path__):
        importlib.import_module(f"{__name__}.{module.name}")
    return {peer.name: peer for peer in sorted(REGISTRY, key=lambda peer: (peer.place, peer.name))}
