"""The networks of a bench by name: in plain torch, as a user has them without effops, and as effops runs them."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import nn

from effops import create_model, fuse
from effops.arch import ARCHS, find_arch
from effops.cli.libraries import import_library

from .errors import BenchError, unknown
from .plain import PlainNetwork

Library = Literal["effops", "timm", "torchvision"]

_LIBRARIES = ("timm", "torchvision")
_USUAL_RESOLUTION = 224
_CALIBRATION_BATCH = 4
_CALIBRATION_RESOLUTION = 128


@dataclass(frozen=True)
class Origin:
    """Whose network a name means; of effops' names timm has most in plain torch."""

    library: Library
    model: str

    @property
    def resolution(self) -> int:
        """The side of the images that the network was made for."""
        if self.library == "effops":
            return find_arch(self.model).resolution
        library = import_library(self.library)
        if self.library == "timm":
            found = library.models.get_pretrained_cfg(self.model)
            return found.input_size[-1] if found else _USUAL_RESOLUTION
        return library.models.get_model_weights(self.model).DEFAULT.transforms().crop_size[0]


@dataclass(frozen=True)
class Network:
    """A plain network in eval, in float32, and where it comes from."""

    module: nn.Module
    source: str
    origin: Origin

    def save(self, path: Path) -> None:
        """Write the network for :func:`load_network` in another process."""
        torch.save(self, path)

    def subject(self) -> nn.Module:
        """effops' answer with the same weights: its own model of that name, else a fused copy of the plain network.

        Raises:
            BenchError: nothing in the copy could be fused; timing it would be timing plain torch.
        """
        if self.origin.library == "effops":
            model = create_model(self.origin.model)
            model.load_state_dict(self.module.state_dict())
            return model.eval()
        model = fuse(copy.deepcopy(self.module))
        if not model.fuse_report.fused:
            raise BenchError(f"effops.fuse found nothing to fuse in {self.origin.model}")
        return model

    def mapped_subject(self, weights: Path) -> nn.Module:
        """effops' own model, with the weights of a ``state_dict`` that ``torch.save`` wrote, mapped and not read."""
        with torch.device("meta"):
            model = create_model(self.origin.model)
        model.load_state_dict(torch.load(weights, mmap=True, weights_only=True), assign=True)
        return model.eval()


def load_network(path: Path) -> Network:
    """The network that :meth:`Network.save` wrote."""
    for library in _LIBRARIES:
        # Unpickling imports it; here where its compiled part does not load, too.
        _absence(library)
    return torch.load(path, weights_only=False)


def _absence(library: str) -> str:
    """Why a library is not here, or ""."""
    try:
        import_library(library)
    except (ImportError, RuntimeError) as error:
        return f"{library} is not importable ({error})"
    return ""


def _names(library: str) -> list[str]:
    models = import_library(library)
    return models.list_models() if library == "timm" else models.models.list_models(module=models.models)


def _has(library: str, model: str) -> bool:
    # Names of timm may carry the tag of their weights.
    return import_library(library).is_model(model) if library == "timm" else model in _names(library)


def find_origin(name: str) -> Origin:
    """Whose network a name means: ``timm/NAME`` and ``torchvision/NAME`` that library's; else effops', timm's and
    torchvision's, whoever has the name first.

    Raises:
        BenchError: nobody has it, or the library is not installed.
        effops.ArgumentError: effops has the name and not the tag of its weights.
    """
    library, slash, model = name.partition("/")
    if slash and library not in _LIBRARIES:
        raise unknown("library", library, _LIBRARIES, "models are named NAME, timm/NAME or torchvision/NAME")
    if slash:
        if absence := _absence(library):
            raise BenchError(f"{name} needs {library}: {absence}. pip install -r requirements/peers.txt")
        if not _has(library, model):
            raise unknown(f"model of {library}", model, _names(library), f"{library}'s list_models() has all names")
        return Origin(library, model)
    if name.partition(".")[0] in ARCHS:
        find_arch(name)
        return Origin("effops", name)
    known = list(ARCHS)
    absences = {library: _absence(library) for library in _LIBRARIES}
    for library in (library for library, absence in absences.items() if not absence):
        if _has(library, name):
            return Origin(library, name)
        known += _names(library)
    others = "; ".join(absence for absence in absences.values() if absence)
    raise unknown("model", name, known, f"names are those of effops, timm and torchvision{others and f'; {others}'}")


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield


@torch.no_grad()
def enliven(model: nn.Module, resolution: int = _CALIBRATION_RESOLUTION) -> None:
    """Give batch norm random weights and the statistics of random images, and layer scales values near 1.

    At initialisation the statistics are 0 and 1 and values shrink or grow from layer to layer; denormals and
    infinities would be timed instead of the network. Random affine weights make a wrong fold visible; a layer scale
    of 1e-5 would hide its whole block.
    """
    norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        nn.init.uniform_(norm.weight, 0.7, 1.3)
        nn.init.normal_(norm.bias, std=0.1)
        norm.reset_running_stats()
        norm.momentum = None
    for name, parameter in model.named_parameters():
        if name.endswith("layer_scale.gamma"):
            nn.init.uniform_(parameter, 0.7, 1.3)
    model.train()
    model(torch.randn(_CALIBRATION_BATCH, 3, resolution, resolution))
    model.eval()
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
        # A channel that happened to vary little would blow up every other image, layer after layer, until rounding
        # decides the result.
        norm.running_var.clamp_(min=norm.running_var.mean().item() / 2)


def _of_library(origin: Origin) -> Network:
    library = import_library(origin.library)
    if origin.library == "timm":
        module = library.create_model(origin.model, pretrained=False)
    else:
        module = library.models.get_model(origin.model, weights=None)
    # Some networks of others take images of their own size alone.
    enliven(module, origin.resolution)
    source = f"{origin.library} {library.__version__}; effops runs a fused copy"
    return Network(module.eval(), source, origin)


def plain_network(name: str, seed: int = 0) -> Network:
    """The network in plain torch, with random weights, in eval.

    Of effops' networks it is timm's of the same name, or plain modules of the same layers where timm has none.

    Raises:
        BenchError: nobody has the name.
    """
    origin = find_origin(name)
    with _seeded(seed):
        if origin.library != "effops":
            return _of_library(origin)
        absence = _absence("timm")
        if not absence and _has("timm", origin.model):
            timm = import_library("timm")
            module = timm.create_model(origin.model, pretrained=False)
            enliven(module)
            return Network(module.eval(), f"timm {timm.__version__}", origin)
        module = PlainNetwork(find_arch(origin.model))
        module.load_state_dict(create_model(origin.model).state_dict())
        enliven(module)
        return Network(module, f"plain modules: {absence or 'timm does not have it'}", origin)
