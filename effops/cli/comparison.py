"""A model on its kernels against the same model in eager PyTorch: how far apart, and how much faster."""

from __future__ import annotations

import copy
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

WARMUP_ROUNDS = 3
MIN_ROUNDS = 7
MAX_ROUNDS = 50
# Small models get all rounds, large ones as many as this allows.
BUDGET_SECONDS = 3.0


@dataclass(frozen=True)
class Comparison:
    """What running a model both ways on one batch gave.

    Attributes:
        logit_difference: largest absolute difference of the logits.
        logit_scale: largest absolute logit of the eager run, to judge the difference by.
        fused_ms: median milliseconds of a call on the kernels.
        eager_ms: median milliseconds of a call in eager PyTorch, channels_last.
        batch: images in a call.
        rounds: calls that each median is taken over.
    """

    logit_difference: float
    logit_scale: float
    fused_ms: float
    eager_ms: float
    batch: int
    rounds: int

    @property
    def speedup(self) -> float:
        """Eager time over fused time."""
        return self.eager_ms / self.fused_ms


def eager(network: nn.Module) -> nn.Module:
    """A copy of an eval-mode network that runs unfused: plain torch modules, batch norm by its statistics.

    Blocks take their plain path while their ``training`` flag is set; leaves (batch norm, drop path) keep it
    cleared, and so still compute what they compute in eval.
    """
    plain = copy.deepcopy(network).to(memory_format=torch.channels_last)
    for module in plain.modules():
        module.training = any(True for _ in module.children())
    return plain


def compare(fused: Callable[[Tensor], Tensor], eager: Callable[[Tensor], Tensor], batch: Tensor) -> Comparison:
    """Runs both on ``batch``, first for their logits, then in alternation for their time."""
    batch = batch.contiguous(memory_format=torch.channels_last)
    with torch.inference_mode():
        return _compare(lambda: fused(batch), lambda: eager(batch), len(batch))


def compare_steps(fused: nn.Module, eager: nn.Module, batch: Tensor) -> Comparison:
    """The same for the forward and backward pass of a training step; the difference is that of the outputs."""
    batch = batch.contiguous(memory_format=torch.channels_last)

    def step(model: nn.Module) -> Callable[[], Tensor]:
        def run() -> Tensor:
            model.zero_grad(set_to_none=True)
            # The same dropouts for both.
            torch.manual_seed(0)
            y = model(batch)
            y.square().mean().backward()
            return y.detach()

        return run

    return _compare(step(fused), step(eager), len(batch))


def _compare(fused: Callable[[], Tensor], eager: Callable[[], Tensor], batch: int) -> Comparison:
    """The two take turns within every round, so that a change of the machine's speed meets both."""
    logits, expected = fused(), eager()
    for _ in range(WARMUP_ROUNDS):
        fused()
        eager()
    fused_times, eager_times = [], []
    deadline = time.perf_counter() + BUDGET_SECONDS
    for done in range(MAX_ROUNDS):
        if done >= MIN_ROUNDS and time.perf_counter() > deadline:
            break
        fused_times.append(_milliseconds(fused))
        eager_times.append(_milliseconds(eager))
    return Comparison(
        logit_difference=(logits - expected).abs().max().item(),
        logit_scale=expected.abs().max().item(),
        fused_ms=statistics.median(fused_times),
        eager_ms=statistics.median(eager_times),
        batch=batch,
        rounds=len(fused_times),
    )


def _milliseconds(call: Callable[[], Tensor]) -> float:
    start = time.perf_counter()
    call()
    return (time.perf_counter() - start) * 1e3
