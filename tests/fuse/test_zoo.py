"""Every model of these families in timm and torchvision, through ``effops.fuse``, against itself before."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

import effops
from tests import peers
from tests.fuse.outcomes import distance, images, step

# One of each kind of block and of each make; the rest is for `make test-slow`.
QUICK = (
    "mobilenetv3_small_050",
    "mobilenetv4_conv_small_035",
    "tv mobilenet_v3_small",
)
TORCHVISION = [
    "mobilenet_v2",
    "mobilenet_v3_large",
    "mobilenet_v3_small",
    *(f"efficientnet_b{i}" for i in range(8)),
    *(f"efficientnet_v2_{size}" for size in "sml"),
]
# L2 alone is larger: its training in float64 takes 20 GiB.
_MOST_TRAINED = 300e6
# At 33 px the statistics of its last maps are of nothing: eager's own gradients in float32 are 60 times off.
_LARGER_IMAGES = {"mobilenetv4_conv_aa_large": (65, 70)}
_FLOOR = 1e-6


def names() -> list[str]:
    timm = peers.timm()
    found = [name for module in ("efficientnet", "mobilenetv3") for name in timm.list_models(module=module)]
    return found + [f"tv {name}" for name in TORCHVISION]


def build(name: str, **settings: float) -> nn.Module:
    torch.manual_seed(0)
    if name.startswith("tv "):
        return getattr(peers.torchvision().models, name[3:])(num_classes=10)
    return peers.timm().create_model(name, num_classes=10, **settings)


def marked(quick: tuple[str, ...]) -> list:
    return [name if name in quick else pytest.param(name, marks=pytest.mark.slow) for name in names()]


@pytest.mark.parametrize("name", marked(QUICK))
def test_eval_equals_the_unfused_model(name):
    """In float32 at most twice as far from float64 as before; the quick ones also equal it on the reference."""
    model = peers.randomise(build(name))
    x = images()
    keys = list(model.state_dict())
    with torch.no_grad():
        eager = model(x)
        exact = copy.deepcopy(model).double()(x.double())
        effops.fuse(model, verify=x if name in QUICK else None)
        fused = model(x)
    assert list(model.state_dict()) == keys
    assert model.fuse_report.fused
    assert exact.std(0).min() > 0, "the images must not give the same logits"
    error = peers.relative_error(fused.double(), exact)
    report = model.fuse_report
    print(
        f"\nZOO eval {name}: {len(report.fused)} fused, {len(report.left)} left, {report.shares.macs:.3f}, {error:.2e}"
    )
    assert error <= 2 * peers.relative_error(eager.double(), exact) + _FLOOR
    if name in QUICK:
        with torch.no_grad(), effops.backend("reference"):
            assert peers.relative_error(model.double()(x.double()), exact) < 1e-10


@pytest.mark.parametrize("name", marked(("mobilenetv3_small_050",)))
def test_training_equals_the_unfused_model(name):
    """Outputs, gradients and moved statistics with the same random numbers, in float64 and in float32."""
    model = build(name) if name.startswith("tv ") else build(name, drop_path_rate=0.2)
    if name not in QUICK and sum(p.numel() for p in model.parameters()) > _MOST_TRAINED:
        pytest.skip("training in float64 takes 20 GiB")
    model = peers.randomise(model).train()
    x = images(3, *_LARGER_IMAGES.get(name, ()))
    double = copy.deepcopy(model).double()
    exact = step(double, x.double())
    layouts = (torch.contiguous_format, torch.channels_last)
    eager = [distance(step(model, x.to(memory_format=layout)), exact) for layout in layouts]
    effops.fuse(model)
    effops.fuse(double)
    with effops.backend("reference"):
        same = distance(step(double, x.double()), exact)
    # torch's own gradient of the hard sigmoid takes its sixth in float32.
    assert max(same.values()) < 1e-7, max(same, key=same.get)
    if name.endswith(("_gn", "_evos")):
        # Of these squeeze-excite alone is fused: float32 would compare torch's layouts, not the ops.
        return
    errors = distance(step(model, x), exact)
    # Of hundreds of tensors some are luckily exact in eager: any may be as far off as eager's worst one.
    least = max(1e-5, *(max(run.values()) for run in eager))
    if least > 1e-3:
        # Fresh ReLU6 networks multiply rounding by thousands: there the worst of ours is held to twice eager's worst.
        least *= 2
    allowed = {key: max(2 * max(run[key] for run in eager), least) for key in errors}
    worst = max(errors, key=lambda key: errors[key] / allowed[key])
    print(f"\nZOO train {name}: {worst} {errors[worst]:.2e}, allowed {allowed[worst]:.2e}, {max(same.values()):.1e}")
    assert errors[worst] <= allowed[worst], worst
