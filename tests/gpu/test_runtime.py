"""Streams, graphs and torch.compile on a GPU."""

from __future__ import annotations

import pytest
import torch

import effops

from .conftest import DEVICE

pytestmark = pytest.mark.skipif(DEVICE.type != "cuda", reason="streams and graphs are CUDA's")


@pytest.fixture
def block():
    torch.manual_seed(0)
    return effops.nn.MBConv(32, 192, 32, act="silu", se_channels=8).to("cuda").to(memory_format=torch.channels_last)


@pytest.fixture
def images():
    return torch.randn(4, 32, 28, 28, device="cuda").contiguous(memory_format=torch.channels_last)


def test_a_cuda_graph_replays(backend, block, images):
    block.eval()
    with effops.backend(backend.name), torch.no_grad():
        stream = torch.cuda.Stream()
        with torch.cuda.stream(stream):
            for _ in range(3):
                block(images)
        stream.synchronize()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            y = block(images)
        images.copy_(torch.randn_like(images))
        graph.replay()
        assert torch.equal(y, block(images))


def test_work_goes_to_the_current_stream(backend, block, images):
    """Behind a long wait on a side stream the input changes; work on another stream would read the old values."""
    block.eval()
    with effops.backend(backend.name), torch.no_grad():
        fresh = torch.randn_like(images)
        expected = block(fresh)
        torch.cuda.synchronize()
        with torch.cuda.stream(torch.cuda.Stream()):
            torch.cuda._sleep(50_000_000)
            images.copy_(fresh)
            y = block(images)
        torch.cuda.synchronize()
    assert torch.equal(y, expected)


def test_nothing_waits_for_the_device(backend, block, images):
    block.train()
    with effops.backend(backend.name):
        block(images).sum().backward()
        torch.cuda.synchronize()
        torch.cuda.set_sync_debug_mode("error")
        try:
            block(images).sum().backward()
        finally:
            torch.cuda.set_sync_debug_mode("default")


@pytest.mark.parametrize("training", [False, True])
def test_compiles_whole(backend, block, images, training):
    block.train(training)
    torch._dynamo.reset()
    with effops.backend(backend.name):
        y = torch.compile(block, fullgraph=True)(images)
        torch.testing.assert_close(y, block(images), rtol=1e-4, atol=1e-4)


def test_a_second_device(backend, block, images):
    if torch.cuda.device_count() < 2:
        pytest.skip("one device")
    block.eval()
    with effops.backend(backend.name), torch.no_grad():
        expected = block(images)
        assert torch.equal(block.to("cuda:1")(images.to("cuda:1")).to("cuda:0"), expected)
