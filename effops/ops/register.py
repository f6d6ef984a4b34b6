"""Registers every row of the op table with torch: schema, reference kernel, fake kernel.

The C++ and CUDA kernels register themselves for their dispatch keys; where none serves a device, the dispatcher falls
back to the reference. Another backend of a device has a namespace of its own, with the rows that it serves:
``torch.ops.effops_triton.depthwise_conv_act``.
"""

from __future__ import annotations

import torch

from . import extension, triton  # noqa: F401 - loading the extension registers the C++ kernels
from .spec import Op
from .table import OPS

_library = torch.library.Library("effops", "DEF")
_triton_library = torch.library.Library(triton.NAMESPACE, "DEF")


def _define(library: torch.library.Library, op: Op) -> None:
    library.define(op.name + op.schema, tags=(torch.Tag.needs_fixed_stride_order, torch.Tag.pt2_compliant_tag))
    torch.library.register_fake(f"{library.ns}::{op.name}", op.fake, lib=library)


for _op in OPS.values():
    _define(_library, _op)
    _library.impl(_op.name, _op.reference, "CompositeExplicitAutograd")
    if "triton" in _op.backends.get("cuda", ()):
        _define(_triton_library, _op)
        for _device in triton.DEVICES:
            _triton_library.impl(_op.name, triton.launcher(_op.name), _device.upper())
