"""Whole blocks in a record of a network: one step each."""

from __future__ import annotations

import copy

import pytest
import torch

import effops
from effops.ops import extension

from .test_compile import close, images, made

pytestmark = pytest.mark.skipif(extension.module is None, reason="needs the CPU kernels")


@pytest.mark.parametrize(("name", "blocks"), [("tf_efficientnetv2_b0", 4), ("efficientnet_es", 7)])
@torch.no_grad()
def test_fused_blocks_run_depth_first(name, blocks):
    model, x = made(name), images(2)
    before = torch.get_num_threads()
    torch.set_num_threads(2)  # whether a block has rows enough is a question of their number
    try:
        compiled = effops.compile_cpu(copy.deepcopy(model), x)
        assert compiled.compile_report.kernels["fused_mbconv"] == blocks
        assert compiled.compile_report.torch == {}
        close(compiled(x + 1), model(x + 1))
    finally:
        torch.set_num_threads(before)
