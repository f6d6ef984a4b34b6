"""The plain network of a model bench: what a user has without effops."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import ModuleType

import torch
from torch import nn

from effops.cli.libraries import import_library

from .errors import BenchError

_CALIBRATION_BATCH = 4
_CALIBRATION_RESOLUTION = 128


@dataclass(frozen=True)
class Network:
    """A plain network in eval, and where it comes from."""

    module: nn.Module
    source: str


def _timm() -> tuple[ModuleType | None, str]:
    """timm, or why it is not here."""
    try:
        return import_library("timm"), ""
    except (ImportError, RuntimeError) as error:
        return None, f"timm is not importable ({error})"


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield


@torch.no_grad()
def enliven(model: nn.Module) -> None:
    """Give batch norm random weights and the statistics of random images.

    At initialisation the statistics are 0 and 1 and values shrink or grow from layer to layer; denormals and
    infinities would be timed instead of the network. Random affine weights make a wrong fold visible.
    """
    norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        nn.init.uniform_(norm.weight, 0.7, 1.3)
        nn.init.normal_(norm.bias, std=0.1)
        norm.reset_running_stats()
        norm.momentum = None
    model.train()
    model(torch.randn(_CALIBRATION_BATCH, 3, _CALIBRATION_RESOLUTION, _CALIBRATION_RESOLUTION))
    model.eval()
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum


def plain_network(name: str, seed: int = 0) -> Network:
    """timm's model of this name, or plain modules of the same layers where timm has none; random weights, in eval.

    Raises:
        BenchError: neither has the name and effops is not importable.
        effops.ArgumentError: effops does not know the name either.
    """
    timm, absence = _timm()
    with _seeded(seed):
        if timm is not None and timm.is_model(name):
            module = timm.create_model(name, pretrained=False)
            enliven(module)
            return Network(module.eval(), f"timm {timm.__version__}")
        try:
            from effops.arch import find_arch
            from effops.models import create_model

            from .plain import PlainNetwork
        except ImportError as error:
            raise BenchError(f"no plain network for {name}: {absence or 'timm does not have it'}; {error}") from error
        module = PlainNetwork(find_arch(name))
        module.load_state_dict(create_model(name).state_dict())
        enliven(module)
        return Network(module, f"plain modules: {absence or 'timm does not have it'}")
