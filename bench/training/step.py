"""One training step: forward, cross-entropy, backward, SGD with momentum."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_LEARNING_RATE = 1e-3
_MOMENTUM = 0.9


class TrainingStep:
    """A network, its optimizer and its batch; a call makes one step.

    Attributes:
        module: the network whose parameters are trained.
    """

    def __init__(
        self,
        module: nn.Module,
        images: Tensor,
        labels: Tensor,
        *,
        autocast: torch.dtype | None = None,
        forward: Callable[[Tensor], Tensor] | None = None,
    ):
        """Args:
        autocast: dtype in which convolutions and matrix products run; None for that of the weights.
        forward: called in place of the module, such as a compiled one that shares its parameters.
        """
        self.module = module.train()
        self._images = images
        self._labels = labels
        self._autocast = autocast
        self._forward = module if forward is None else forward
        self._optimizer = torch.optim.SGD(module.parameters(), lr=_LEARNING_RATE, momentum=_MOMENTUM)

    @property
    def outside_storages(self) -> list[Tensor]:
        """What is in memory with or without a step: parameters, buffers and the images."""
        return [*self.module.parameters(), *self.module.buffers(), self._images]

    def forward(self) -> Tensor:
        """The loss, in float32 or wider."""
        with torch.autocast(
            self._images.device.type, self._autocast or torch.bfloat16, enabled=self._autocast is not None
        ):
            logits = self._forward(self._images)
        wide = logits if logits.dtype == torch.float64 else logits.float()
        return F.cross_entropy(wide, self._labels)

    def backward(self, loss: Tensor) -> None:
        loss.backward()

    def update(self) -> None:
        self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=True)

    def __call__(self) -> Tensor:
        loss = self.forward()
        self.backward(loss)
        self.update()
        return loss.detach()


@dataclass(frozen=True)
class TrainingCase:
    """One training problem.

    Attributes:
        module: the network in plain torch with float32 weights; a peer copies it first.
        images: NCHW in memory.
        fused: builds effops' network with the same weights, in channels_last.
        dtype: float32, or the dtype of autocast.
    """

    module: nn.Module
    images: Tensor
    labels: Tensor
    fused: Callable[[], nn.Module]
    dtype: torch.dtype

    @cached_property
    def channels_last_images(self) -> Tensor:
        return self.images.contiguous(memory_format=torch.channels_last)

    def step(
        self, module: nn.Module, images: Tensor, *, forward: Callable[[Tensor], Tensor] | None = None
    ) -> TrainingStep:
        """The step of a peer: its network and the images in its layout."""
        autocast = None if self.dtype == torch.float32 else self.dtype
        return TrainingStep(module, images, self.labels, autocast=autocast, forward=forward)
