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


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("name", ["mobilenetv1_100", "tf_efficientnetv2_b0", "mobilenetv3_small_100"])
@torch.no_grad()
def test_batches_are_taken_a_few_images_at_a_time(name, threads):
    model, x = made(name), images(9, 96)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        compiled = effops.compile_cpu(copy.deepcopy(model), x, x[:1])
        assert compiled.compile_report.torch == {}
        # A buffer for slices is smaller than one for the batch.
        whole = 9 * effops.compile_cpu(copy.deepcopy(model), x[:1]).compile_report.buffer_bytes
        assert compiled.compile_report.buffer_bytes < whole
        got = compiled(x + 1)
        close(got, model(x + 1))
        close(got, torch.cat([compiled(image + 1) for image in x.split(1)]))
    finally:
        torch.set_num_threads(before)
