"""All networks by name, and the search for a name."""

from __future__ import annotations

from difflib import SequenceMatcher
from fnmatch import fnmatchcase

from effops.errors import ArgumentError

from . import (
    efficientnet,
    efficientnet_edgetpu,
    efficientnet_lite,
    efficientnetv2,
    mobilenet_edgetpu,
    mobilenet_multi,
    mobilenetv1,
    mobilenetv2,
    mobilenetv3,
    mobilenetv4,
)
from .arch import Arch

FAMILIES = (
    efficientnet,
    efficientnet_edgetpu,
    efficientnet_lite,
    efficientnetv2,
    mobilenet_edgetpu,
    mobilenet_multi,
    mobilenetv1,
    mobilenetv2,
    mobilenetv3,
    mobilenetv4,
)

ARCHS: dict[str, Arch] = {arch.name: arch for family in FAMILIES for arch in family.rows()}


def find_arch(name: str) -> Arch:
    """The row with this name.

    Raises:
        ArgumentError: no such name; the message suggests near ones.
    """
    if name not in ARCHS:
        likeness = {other: SequenceMatcher(None, name, other).ratio() for other in ARCHS}
        near = sorted((other for other in ARCHS if likeness[other] > 0.6), key=lambda o: (-likeness[o], o))[:3]
        hint = f"did you mean {' or '.join(near)}?" if near else "effops.list_models() lists all names."
        raise ArgumentError(f"unknown model {name!r}; {hint}")
    return ARCHS[name]


def list_archs(glob: str = "*") -> list[str]:
    """Names that match a shell-style pattern such as ``"*efficientnet_b?"``, sorted."""
    return sorted(name for name in ARCHS if fnmatchcase(name, glob))


def find_port(arch: Arch, port: str) -> Arch | None:
    """The row whose padding and batch norm eps weights of this network need when trained in ``port``.

    A row with the same layers; else one of the same family, as a port treats the sizes alike that it has no
    name for. None when the port has no such family.
    """
    family = [row for row in ARCHS.values() if row.port == port and row.family == arch.family]
    return next((row for row in family if row.same_layers(arch)), family[0] if family else None)
