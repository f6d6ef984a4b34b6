"""What a model was compiled to."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from torch import nn

from .tape import KernelStep, Tape, TorchStep
from .weights import Weights

_MIB = 1 << 20


@dataclass(frozen=True)
class CompileReport:
    """What runs in place of a model's forward.

    Attributes:
        model: its class.
        shape: of the input.
        kernels: how many calls of each kernel.
        torch: how many calls of each operator that no kernel of effops serves.
        weight_bytes: packed weights, of all shapes together; kernels read others where they lie in the model.
        buffer_bytes: what lies between kernels, at its highest, on as many threads as torch has now.
    """

    model: str
    shape: tuple[int, ...]
    kernels: dict[str, int]
    torch: dict[str, int]
    weight_bytes: int
    buffer_bytes: int

    def __str__(self) -> str:
        size = "x".join(map(str, self.shape))
        kernels = ", ".join(f"{count} {name}" for name, count in self.kernels.items())
        between = ", ".join(f"{count} {name}" for name, count in self.torch.items()) or "none"
        return (
            f"{self.model} on {size}: {sum(self.kernels.values())} kernels ({kernels}); calls of torch: {between}; "
            f"packed weights {self.weight_bytes / _MIB:.1f} MiB, buffer {self.buffer_bytes / _MIB:.1f} MiB"
        )


def report_of(model: nn.Module, tape: Tape, weights: Weights) -> CompileReport:
    """Counts of a tape."""
    plans = [step.plan for step in tape.steps if isinstance(step, KernelStep)]
    calls = [str(step.function) for step in tape.steps if isinstance(step, TorchStep)]
    return CompileReport(
        model=type(model).__name__,
        shape=tuple(tape.shape),
        kernels=dict(Counter(name for plan in plans for name in plan.steps).most_common()),
        torch=dict(Counter(calls).most_common()),
        weight_bytes=weights.store.bytes,
        buffer_bytes=max((plan.arena_bytes for plan in plans), default=0),
    )
