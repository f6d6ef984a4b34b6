"""Registers every row of the op table with torch: schema, reference kernel, fake kernel.

The C++ and other kernels register themselves for their dispatch keys; where none serves a device, the dispatcher
falls back to the reference.
"""

from __future__ import annotations

import torch

from . import extension  # noqa: F401 - loading it registers the C++ kernels
from .table import OPS

_library = torch.library.Library("effops", "DEF")

for _op in OPS.values():
    _library.define(_op.name + _op.schema, tags=(torch.Tag.needs_fixed_stride_order, torch.Tag.pt2_compliant_tag))
    _library.impl(_op.name, _op.reference, "CompositeExplicitAutograd")
    torch.library.register_fake(f"effops::{_op.name}", _op.fake, lib=_library)
