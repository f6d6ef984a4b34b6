"""Two processes on halves of a batch train as one on the whole: DDP with synchronised batch norm."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import nn
from torch.nn.parallel import DistributedDataParallel

import effops
from effops.nn import ConvBNAct, MBConv, SyncBatchNorm2d, convert_sync_batchnorm

WORLD = 2


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        ConvBNAct(3, 8, 3, stride=2, padding="same", act="silu"),
        MBConv(8, 24, 8, act="silu", se_channels=4),
        MBConv(8, 24, 12, 5, stride=2, act="hardswish"),
    ).train()


def images() -> torch.Tensor:
    return torch.randn(6, 3, 20, 20, generator=torch.Generator().manual_seed(1))


def loss_of(y: torch.Tensor) -> torch.Tensor:
    """A mean over the batch, as DDP averages gradients over equal shares."""
    return (y * torch.linspace(-1, 1, y[0].numel()).view(y[0].shape)).square().mean()


def _train(rank: int, store: str, results: str, backend: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=WORLD)
    model = DistributedDataParallel(convert_sync_batchnorm(network()))
    with effops.backend(backend):
        loss_of(model(images().chunk(WORLD)[rank])).backward()
    state = {f"grad {name}": p.grad for name, p in model.module.named_parameters()}
    state |= dict(model.module.named_buffers())
    torch.save(state, f"{results}/{rank}.pt")
    dist.destroy_process_group()


@pytest.fixture(scope="module", params=["cpu", "reference"])
def states(request, tmp_path_factory) -> list[dict[str, torch.Tensor]]:
    folder: Path = tmp_path_factory.mktemp("ddp")
    mp.spawn(_train, args=(str(folder / "store"), str(folder), request.param), nprocs=WORLD)
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in range(WORLD)]


def test_the_processes_agree(states):
    assert all(torch.equal(value, states[1][key]) for key, value in states[0].items())


def test_gradients_and_statistics_are_those_of_the_joined_batch(states):
    model = network()
    loss_of(model(images())).backward()
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(states[0][f"grad {name}"], parameter.grad, rtol=1e-4, atol=1e-6, msg=name)
    for name, buffer in model.named_buffers():
        torch.testing.assert_close(states[0][name], buffer, rtol=1e-5, atol=1e-6, msg=name)


def test_the_conversion_keeps_activation_and_state():
    model, converted = network().eval(), convert_sync_batchnorm(network()).eval()
    assert sum(isinstance(module, SyncBatchNorm2d) for module in converted.modules()) == 7
    assert model.state_dict().keys() == converted.state_dict().keys()
    assert torch.equal(model(images()), converted(images()))
