"""A fused model under torch.compile, torch.export and DDP."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import nn
from torch.nn.parallel import DistributedDataParallel

import effops
from tests import peers
from tests.fuse.handwritten import OneActivationBlock, SharedActivationBlock

WORLD = 2


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1, bias=False), nn.BatchNorm2d(8), nn.Hardswish()),
        OneActivationBlock(8, 8),
        SharedActivationBlock(8, 12, 2),
    )


def images(batch: int = 4) -> torch.Tensor:
    return torch.randn(batch, 3, 20, 22, generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="module")
def fused() -> nn.Module:
    model = effops.fuse(peers.randomise(network()))
    assert len(model.fuse_report.fused) == 3
    return model


def test_torch_compile_in_one_graph(fused):
    """One graph in training, and what eager gives, with gradients and statistics."""
    model = copy.deepcopy(fused).train()
    twin = copy.deepcopy(model)
    compiled = torch.compile(twin, fullgraph=True, backend="aot_eager")
    expected, actual = model(images()), compiled(images())
    torch.testing.assert_close(actual, expected, rtol=1e-4, atol=1e-4)
    expected.square().mean().backward()
    actual.square().mean().backward()
    for (name, p), other in zip(model.named_parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(other.grad, p.grad, rtol=1e-3, atol=1e-4, msg=name)
    for (name, b), other in zip(model.named_buffers(), twin.buffers(), strict=True):
        torch.testing.assert_close(other, b, rtol=1e-4, atol=1e-4, msg=name)


def test_torch_export(fused):
    program = torch.export.export(fused, (images(),))
    assert any("effops" in str(node.target) for node in program.graph.nodes)
    with torch.no_grad():
        torch.testing.assert_close(program.module()(images()), fused(images()), rtol=1e-4, atol=1e-4)


def test_a_known_network_compiles_and_exports():
    """timm's own, whose methods see it through a stand-in; a stage of it, as tracing takes its time."""
    model = peers.randomise(peers.timm().create_model("mobilenetv3_small_050", num_classes=4))
    model.blocks, model.conv_head = model.blocks[:2], nn.Conv2d(model.blocks[1][-1].conv_pwl.out_channels, 1024, 1)
    x = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        expected = model(x)
        effops.fuse(model, strict=True)
        compiled = torch.compile(copy.deepcopy(model), fullgraph=True, backend="eager")
        exported = torch.export.export(copy.deepcopy(model), (x,)).module()
        for run in (model, compiled, exported):
            torch.testing.assert_close(run(x), expected, rtol=1e-4, atol=1e-4)


def _train(rank: int, store: str, results: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=WORLD)
    model = DistributedDataParallel(effops.nn.convert_sync_batchnorm(effops.fuse(network().train())))
    model(images().chunk(WORLD)[rank]).square().mean().backward()
    state = {f"grad {name}": p.grad for name, p in model.module.named_parameters()}
    torch.save(state | dict(model.module.named_buffers()), f"{results}/{rank}.pt")
    dist.destroy_process_group()


def test_two_processes_train_as_one(tmp_path: Path):
    """DDP on a fused model whose batch norms were synchronised afterwards, beside one process on the whole batch."""
    mp.spawn(_train, args=(str(tmp_path / "store"), str(tmp_path)), nprocs=WORLD)
    states = [torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(WORLD)]
    assert all(torch.equal(value, states[1][key]) for key, value in states[0].items())
    model = network().train()
    model(images()).square().mean().backward()
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(states[0][f"grad {name}"], parameter.grad, rtol=1e-3, atol=1e-5, msg=name)
    for name, buffer in model.named_buffers():
        torch.testing.assert_close(states[0][name], buffer, rtol=1e-4, atol=1e-5, msg=name)
