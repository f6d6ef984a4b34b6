"""Whether an exported file answers as the model that it was made from."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from effops.errors import ExportError

# Of the largest logit: other kernels sum in another order.
TOLERANCE = {torch.float32: 1e-4, torch.bfloat16: 5e-2, torch.float16: 1e-2, torch.float64: 1e-9}


@dataclass(frozen=True)
class Exported:
    """A file, and how far its answers were from the model's.

    Attributes:
        path: the file.
        format: "torch.export", "ONNX" or "AOTInductor".
        dynamic: what may differ from the example in later calls.
        errors: by shape of the input, the largest difference over the model's largest value.
    """

    path: str
    format: str
    dynamic: tuple[str, ...]
    errors: dict[tuple[int, ...], float]


def examples_of(example: Tensor, dynamic: Sequence[str]) -> list[Tensor]:
    """The example, and images of another batch and of an odd, not square size where these may change."""
    found = [example]
    if "batch" in dynamic:
        found.append(torch.cat([example, example.flip(-1), example[:1]]))
    if "size" in dynamic:
        height, width = (side + extra for side, extra in zip(example.shape[2:], (-9, 21), strict=True))
        size = (max(33, height), width)
        found.append(nn.functional.interpolate(example, size, mode="nearest"))
    return found


@torch.no_grad()
def verified(
    model: nn.Module, exported: Callable[[Tensor], Tensor], examples: Sequence[Tensor], what: str
) -> dict[tuple[int, ...], float]:
    """Run both on every example and return their distances.

    Raises:
        ExportError: they differ by more than rounding.
    """
    errors = {}
    for x in examples:
        expected, found = model(x), exported(x)
        if found.shape != expected.shape:
            raise ExportError(
                f"{what} gives {tuple(found.shape)} for {tuple(x.shape)}, the model {tuple(expected.shape)}"
            )
        largest = expected.abs().max().item() or 1.0
        error = (found.to(expected) - expected).abs().max().item() / largest
        if not error <= TOLERANCE[x.dtype]:
            raise ExportError(
                f"{what} differs from the model by {error:.2g} of its largest value for an input {tuple(x.shape)}; "
                f"rounding explains {TOLERANCE[x.dtype]:g}. It was not written; please report the model"
            )
        errors[tuple(x.shape)] = error
    return errors
