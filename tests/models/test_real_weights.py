"""The real checkpoints on real photographs, against independent implementations."""

from __future__ import annotations

import pytest
import torch
from PIL import Image
from torch import Tensor

from effops.errors import CheckpointError
from effops.models import create_model
from tests import peers

_INTERPOLATION = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}


def photographs(config: dict) -> tuple[Tensor, Tensor]:
    """The 20 photographs as a batch, preprocessed by the model's own configuration, and their labels."""
    _, height, width = config["input_size"]
    mean, std = (torch.tensor(config[key])[:, None, None] for key in ("mean", "std"))
    images, labels = [], []
    for path in peers.photographs():
        image = Image.open(path).convert("RGB")
        scale = int(height / config["crop_pct"]) / min(image.size)
        image = image.resize([round(side * scale) for side in image.size], _INTERPOLATION[config["interpolation"]])
        left, top = (image.width - width) // 2, (image.height - height) // 2
        image = image.crop((left, top, left + width, top + height))
        pixels = torch.frombuffer(bytearray(image.tobytes()), dtype=torch.uint8)
        images.append((pixels.view(height, width, 3).permute(2, 0, 1) / 255 - mean) / std)
        labels.append(int(path.stem.split("_")[2]))
    return torch.stack(images), torch.tensor(labels)


def assert_equals_the_peer(ours, theirs, floor: float) -> Tensor:
    """At most twice as far from the peer in float64 as the peer itself in float32; returns our logits."""
    x, labels = photographs(ours.default_cfg)
    with torch.no_grad():
        logits, logits_peer = ours(x), theirs(x)
        exact = theirs.double()(x.double())
    error = peers.relative_error(logits.double(), exact)
    assert error <= 2 * peers.relative_error(logits_peer.double(), exact) + floor
    assert error < 1e-5
    # Right labels show that weights, preprocessing and class order belong together.
    assert (logits.argmax(1) == labels).sum() >= 15
    return logits


@pytest.fixture(scope="module")
def lite0():
    return create_model("tf_efficientnet_lite0", checkpoint=peers.lite0_checkpoint()).eval()


def test_lite0_equals_timm(lite0):
    """timm gets the tensors by their order, not through our key map."""
    theirs = peers.timm().create_model("tf_efficientnet_lite0").eval()
    stored = torch.load(peers.lite0_checkpoint(), weights_only=True)
    theirs.load_state_dict(dict(zip(theirs.state_dict(), stored.values(), strict=True)))
    assert_equals_the_peer(lite0, theirs, floor=1e-7)


def test_mobilenet_v2_equals_torchvision():
    ours = create_model("mobilenet_v2", checkpoint=peers.mobilenet_v2_checkpoint()).eval()
    theirs = peers.torchvision().models.mobilenet_v2().eval()
    theirs.load_state_dict(torch.load(peers.mobilenet_v2_checkpoint(), weights_only=True))
    assert_equals_the_peer(ours, theirs, floor=1e-7)


def test_lite0_in_the_wrong_twin_answers_wrongly(lite0):
    """The shapes fit, so it would load: logits move by 4 of a scale of 14, and most labels stay right."""
    x, _ = photographs(lite0.default_cfg)
    twin = create_model("efficientnet_lite0").eval()
    twin.load_state_dict(lite0.state_dict())
    with torch.no_grad():
        moved = (twin(x) - lite0(x)).abs().max().item()
    assert moved == pytest.approx(4.07, abs=0.3)


def test_lite0_is_refused_by_the_wrong_twin():
    with pytest.raises(CheckpointError, match=r"would answer wrongly. Create 'tf_efficientnet_lite0'"):
        create_model("efficientnet_lite0", checkpoint=peers.lite0_checkpoint())
