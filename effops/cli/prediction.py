"""From preprocessed images to the names of their likeliest classes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

# Images in one call of the model: enough to keep a few cores busy, at little memory.
BATCH = 16


@dataclass(frozen=True)
class Prediction:
    """One of an image's likeliest classes."""

    index: int
    name: str
    probability: float


def predict(model: nn.Module, inputs: Tensor, names: Sequence[str], topk: int) -> list[tuple[Prediction, ...]]:
    """The ``topk`` likeliest classes of each image, best first.

    Args:
        model: a classifier in eval mode.
        inputs: preprocessed images, (N, 3, H, W).
        names: names of the model's classes.
        topk: classes an image, at most ``len(names)``.
    """
    found = []
    with torch.inference_mode():
        for batch in inputs.split(BATCH):
            logits = model(batch.contiguous(memory_format=torch.channels_last))
            best = logits.float().softmax(-1).topk(topk)
            for values, indices in zip(best.values.tolist(), best.indices.tolist(), strict=True):
                found.append(
                    tuple(Prediction(index, names[index], value) for value, index in zip(values, indices, strict=True))
                )
    return found
