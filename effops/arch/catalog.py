"""All networks by name, and the search for a name."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from difflib import SequenceMatcher
from fnmatch import fnmatchcase

from effops.errors import ArgumentError

from . import (
    efficientnet,
    efficientnet_condconv,
    efficientnet_edgetpu,
    efficientnet_lite,
    efficientnetv2,
    mobilenet_edgetpu,
    mobilenet_multi,
    mobilenetv1,
    mobilenetv2,
    mobilenetv3,
    mobilenetv4,
    mobilenetv5,
)
from .arch import Arch
from .weight_sets import weight_sets

FAMILIES = (
    efficientnet,
    efficientnet_condconv,
    efficientnet_edgetpu,
    efficientnet_lite,
    efficientnetv2,
    mobilenet_edgetpu,
    mobilenet_multi,
    mobilenetv1,
    mobilenetv2,
    mobilenetv3,
    mobilenetv4,
    mobilenetv5,
)

ARCHS: dict[str, Arch] = {arch.name: arch for family in FAMILIES for arch in family.rows()}


def find_arch(name: str) -> Arch:
    """The row with this name; of ``name.tag`` with the preprocessing and the classes of those weights.

    Raises:
        ArgumentError: no such name or tag; the message suggests near ones.
    """
    model, _, tag = name.partition(".")
    if model not in ARCHS:
        raise ArgumentError(f"unknown model {name!r}; {_near(model, ARCHS) or 'effops.list_models() lists all names.'}")
    if not tag:
        return ARCHS[model]
    found = weight_sets().get(name)
    if found is None:
        tags = [known.tag for known in weight_sets().values() if known.model == model]
        listed = f"its tags are {', '.join(tags)}" if tags else "it has none"
        raise ArgumentError(f"unknown weights {tag!r} of model {model!r}; {listed}")
    return replace(ARCHS[model], tag=tag, num_classes=found.num_classes, preprocessing=found.preprocessing)


def _near(name: str, names: Iterable[str]) -> str:
    likeness = {other: SequenceMatcher(None, name, other).ratio() for other in names}
    near = sorted((other for other in likeness if likeness[other] > 0.6), key=lambda o: (-likeness[o], o))[:3]
    return f"did you mean {' or '.join(near)}?" if near else ""


def list_archs(glob: str = "*") -> list[str]:
    """Names that match a shell-style pattern such as ``"*efficientnet_b?"``, sorted.

    A pattern with a dot, such as ``"mobilenetv4*.*"``, lists the known weights as ``name.tag``.
    """
    return sorted(name for name in (weight_sets() if "." in glob else ARCHS) if fnmatchcase(name, glob))


def find_port(arch: Arch, port: str) -> Arch | None:
    """The row whose padding and batch norm eps weights of this network need when trained in ``port``.

    A row with the same layers; else one of the same family, as a port treats the sizes alike that it has no
    name for. None when the port has no such family.
    """
    family = [row for row in ARCHS.values() if row.port == port and row.family == arch.family]
    return next((row for row in family if row.same_layers(arch)), family[0] if family else None)
