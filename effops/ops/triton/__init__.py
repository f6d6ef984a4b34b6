"""The Triton backend: every row of the op table as Triton kernels, under ``torch.ops.effops_triton``.

Triton is imported at the first call, not with effops. With ``TRITON_INTERPRET=1`` in the environment its kernels run in
Triton's interpreter, on CPU tensors: slow, and enough to see that they are right.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
from collections.abc import Callable
from typing import Any

NAMESPACE = "effops_triton"
INTERPRETED = os.environ.get("TRITON_INTERPRET", "0") not in ("", "0")
DEVICES = ("cuda", "cpu") if INTERPRETED else ("cuda",)

# The module of this package that holds a row of the op table, by the row's name.
MODULES = {
    "conv_act": "conv",
    "depthwise_conv_act": "depthwise",
    "depthwise_conv_act_pool": "depthwise",
    "pointwise_conv_act": "pointwise",
    "se_gate": "squeeze_excite",
    "squeeze_excite": "squeeze_excite",
    "mbconv": "mbconv",
    "fused_mbconv": "fused_mbconv",
    "batch_norm_stats": "norm",
    "batch_norm_apply": "norm",
    "batch_norm_pool": "norm",
    "batch_norm_apply_pool": "norm",
    "batch_norm_grad_sums": "norm",
    "batch_norm_grad_apply": "norm",
    "se_gate_backward": "squeeze_excite_training",
    "pointwise_conv_stats": "pointwise_training",
    "depthwise_conv_stats": "depthwise_training",
    "pointwise_conv_backward": "pointwise_training",
    "depthwise_conv_backward": "depthwise_backward",
}


def missing() -> str | None:
    """Why no Triton kernel can run in this process, or None."""
    if importlib.util.find_spec("triton") is None:
        return "Triton is not installed: pip install triton"
    return None


def launcher(row: str) -> Callable[..., Any]:
    """The function that runs a row of the op table on checked tensors of any strides; looked up at its first call."""
    found: Callable[..., Any] | None = None

    def run(*args: Any) -> Any:
        nonlocal found
        if found is None:
            found = getattr(importlib.import_module(f"{__name__}.{MODULES[row]}"), row)
        return found(*args)

    return run
