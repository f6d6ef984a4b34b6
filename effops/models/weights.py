"""Checkpoints into models and back: right tensors, right model, or an error that tells which it would be."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from effops.arch import ARCHS, Arch, find_port
from effops.errors import ArgumentError, CheckpointError

from .checkpoint import read_state_dict, write_state_dict
from .keymaps import SPELLINGS, Spelling, find_spelling
from .trunk import Trunk

_SHOWN = 4
_STEMS = ("conv_stem.weight", "conv_stem.conv.weight")


@dataclass(frozen=True)
class LoadReport:
    """What a checkpoint gave to a model.

    Attributes:
        spelling: "timm", "torchvision" or "lukemelas".
        loaded: our keys of the tensors that were taken.
        adapted: those of them whose shape was changed: a stem for another number of channels, linear weights.
        kept: our keys of the tensors that the model kept: a new classifier.
        unused: the checkpoint's keys that were left out: its classifier, or its head.
    """

    spelling: str
    loaded: tuple[str, ...]
    adapted: tuple[str, ...]
    kept: tuple[str, ...]
    unused: tuple[str, ...]


def load(network: Trunk, path: str | os.PathLike[str], *, keep_head: bool = False) -> LoadReport:
    """Load a checkpoint in any known spelling; every tensor of the model must be in it, and nothing else.

    A stem for 3 channels is adapted to the model's ``in_chans``; a head or a classifier is left out when the model has
    none.

    Args:
        keep_head: keep the model's classifier where the checkpoint's has another number of classes, or there is none.

    Raises:
        CheckpointError: the file cannot be read, belongs to another model, or was trained with another
            padding or batch norm eps than the model has. Its message names the file, what differs and the
            remedy.
    """
    state_dict = read_state_dict(path)
    try:
        found = translate(network, state_dict, keep_head=keep_head)
    except CheckpointError as error:
        raise CheckpointError(f"checkpoint {str(path)!r}: {error}") from None
    spelling = find_spelling(state_dict)
    table = spelling.keys(network.arch)
    own = network.state_dict()
    network.load_state_dict({**own, **found})
    return LoadReport(
        spelling.name,
        loaded=tuple(key for key in own if key in found),
        adapted=tuple(our for key, our in table.items() if our in found and _shape(state_dict, key) != own[our].shape),
        kept=tuple(key for key in own if key not in found),
        unused=tuple(key for key in state_dict if table[key] not in found),
    )


def save(network: Trunk, path: str | os.PathLike[str], *, spelling: str = "timm") -> None:
    """Write a model's weights as ``.safetensors`` or, under any other suffix, as a torch file.

    The file appears whole or not at all: it is written under another name beside it and renamed.

    Args:
        spelling: as in :func:`export_state_dict`.

    Raises:
        ArgumentError: an unknown spelling, or one that does not exist for this family.
        CheckpointError: the folder does not exist or cannot be written to.
    """
    state_dict = {key: value.contiguous() for key, value in export_state_dict(network, spelling).items()}
    write_state_dict(state_dict, path, metadata={"architecture": network.arch.name, "format": "pt"})


def translate(network: Trunk, state_dict: Mapping[str, Tensor], *, keep_head: bool = False) -> dict[str, Tensor]:
    """A foreign state_dict under our keys, complete but for a kept head, and with the shapes of ``network``.

    Raises:
        CheckpointError: as :func:`load`, without the name of a file.
    """
    arch = network.arch
    spelling = find_spelling(state_dict)
    if spelling is None:
        signs = ", ".join(f"{sign!r} ({known.name})" for known in SPELLINGS.values() for sign in known.signs)
        raise CheckpointError(
            f"its keys are in no known spelling: they begin {_some(state_dict)}; expected one of {signs}. "
            "Rename the keys to those of create_model(...).state_dict()"
        )
    expected = dict(network.state_dict())
    if arch.family in spelling.families:
        table = spelling.keys(arch)
        # Of what the row has, a network without head or classifier has only a part.
        found = {table[key]: value for key, value in state_dict.items() if table.get(key) in expected}
        foreign = [key for key in state_dict if key not in table]
    else:
        found, foreign = {}, list(state_dict)
    if keep_head and not _same_classifier(found, expected):
        for tensors in (found, expected):
            for key in [key for key in tensors if key.startswith("classifier.")]:
                del tensors[key]
    _fill_counters(found, expected)
    missing = [key for key in expected if key not in found]
    if missing or foreign:
        raise CheckpointError(_another_model(arch, spelling, state_dict, missing, foreign))
    found = {key: _fit(key, value, expected[key]) for key, value in found.items()}
    _check_shapes(network, spelling, state_dict, found, expected)
    _check_port(arch, spelling)
    return found


def _same_classifier(found: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> bool:
    keys = [key for key in expected if key.startswith("classifier.")]
    return all(key in found and found[key].shape == expected[key].shape for key in keys)


def _shape(state_dict: Mapping[str, Tensor], key: str) -> torch.Size | None:
    return state_dict[key].shape if key in state_dict else None


def export_state_dict(network: Trunk, spelling: str) -> dict[str, Tensor]:
    """The model's state_dict in another spelling, to be loaded where that is expected.

    Args:
        spelling: "timm", "torchvision" or "lukemelas".

    Raises:
        ArgumentError: an unknown spelling, or one that does not exist for this family.
    """
    known = SPELLINGS.get(spelling)
    if known is None or network.arch.family not in known.families:
        possible = [name for name, entry in SPELLINGS.items() if network.arch.family in entry.families]
        raise ArgumentError(f"spelling must be one of {', '.join(possible)} for {network.arch.name}; got {spelling!r}")
    ours = network.state_dict()
    exported = {key: ours[our_key] for key, our_key in known.keys(network.arch).items() if our_key in ours}
    if "classifier.0.weight" in exported:
        # MobileNetV3's hidden layer is a linear one there.
        exported["classifier.0.weight"] = exported["classifier.0.weight"].flatten(1)
    return exported


def _fill_counters(found: dict[str, Tensor], expected: Mapping[str, Tensor]) -> None:
    """Checkpoints from before torch 0.4.1 have no batch counters, which no result depends on."""
    for key, value in expected.items():
        if key.endswith(".num_batches_tracked"):
            found.setdefault(key, torch.zeros_like(value, device="cpu"))


def _fit(key: str, value: Tensor, expected: Tensor) -> Tensor:
    """Give a linear weight the axes of a 1 x 1 convolution, and a 3-channel stem the model's channels."""
    if value.dim() == 2 and expected.dim() == 4:
        value = value[:, :, None, None]
    if key in _STEMS and value.dim() == 4 and value.shape[1] == 3 != expected.shape[1]:
        value = _adapt_stem(value, expected.shape[1])
    return value


def _adapt_stem(weight: Tensor, in_chans: int) -> Tensor:
    """Repeat the RGB filters over the channels, scaled so that a grey image gives what it gave before.

    One channel gets their sum.
    """
    if in_chans == 1:
        return weight.sum(dim=1, keepdim=True)
    repeated = weight.repeat(1, math.ceil(in_chans / 3), 1, 1)[:, :in_chans]
    return repeated * (3 / in_chans)


def _check_shapes(
    network: Trunk,
    spelling: Spelling,
    state_dict: Mapping[str, Tensor],
    found: Mapping[str, Tensor],
    expected: Mapping[str, Tensor],
) -> None:
    differing = [key for key, value in found.items() if value.shape != expected[key].shape]
    if not differing:
        return
    listed = "; ".join(
        f"{key} has {tuple(found[key].shape)}, expected {tuple(expected[key].shape)}" for key in differing[:_SHOWN]
    )
    more = f"; and {len(differing) - _SHOWN} more" if len(differing) > _SHOWN else ""
    if all(key.startswith("classifier.") for key in differing):
        classes = found["classifier.weight"].shape[0]
        raise CheckpointError(
            f"it has {classes} classes, the model {network.num_classes} ({listed}). Create the model with "
            f"num_classes={classes}; to train a new classifier, load it with effops.models.load(model, path, "
            "keep_head=True)"
        )
    raise CheckpointError(
        f"the shapes are not those of {network.arch.name}: {listed}{more}. {_advice(spelling, state_dict)}"
    )


def _check_port(arch: Arch, spelling: Spelling) -> None:
    """Refuse weights that would load and give wrong answers."""
    fitting = find_port(arch, spelling.port) if spelling.port else None
    if fitting is None or (fitting.padding, fitting.bn_eps) == (arch.padding, arch.bn_eps):
        return
    if fitting.same_layers(arch):
        remedy = f"Create {fitting.name!r} instead"
    else:
        remedy = "Build one with effops.models.build(dataclasses.replace(arch, padding=..., bn_eps=...))"
    raise CheckpointError(
        f"its keys are in the {spelling.name} spelling, whose weights were trained with padding "
        f"{fitting.padding!r} and batch norm eps {fitting.bn_eps:g}; {arch.name} has {arch.padding!r} and "
        f"{arch.bn_eps:g} and would answer wrongly. {remedy}"
    )


def _another_model(
    arch: Arch, spelling: Spelling, state_dict: Mapping[str, Tensor], missing: list[str], foreign: list[str]
) -> str:
    parts = []
    if missing:
        parts.append(f"{len(missing)} tensors of the model are not in it ({_some(missing)})")
    if foreign:
        parts.append(f"{len(foreign)} of its tensors are not in the model ({_some(foreign)})")
    return f"it is not a checkpoint of {arch.name}: {' and '.join(parts)}. {_advice(spelling, state_dict)}"


def _advice(spelling: Spelling, state_dict: Mapping[str, Tensor]) -> str:
    fitting = [arch.name for arch in ARCHS.values() if _fits(arch, spelling, state_dict)]
    if not fitting:
        return "No model that effops knows has these tensors; check that it is the right file"
    return f"It fits {' or '.join(fitting)}; create that model"


def _fits(arch: Arch, spelling: Spelling, state_dict: Mapping[str, Tensor]) -> bool:
    """Whether the checkpoint has this network's convolutions, and no others."""
    if arch.family not in spelling.families:
        return False
    if spelling.port not in (None, arch.port):
        return False
    keys = spelling.keys(arch)
    if any(key not in keys for key in state_dict):
        return False
    foreign = {ours: key for key, ours in keys.items()}
    for conv in arch.convs():
        weight = state_dict.get(foreign[f"{conv.name}.weight"])
        shape = conv.weight_shape
        if weight is None or (*weight.shape, 1, 1)[: len(shape)] != shape:
            return False
    return True


def _some(keys: Mapping[str, Tensor] | list[str]) -> str:
    names = list(keys)
    return ", ".join(names[:_SHOWN]) + (", ..." if len(names) > _SHOWN else "")
