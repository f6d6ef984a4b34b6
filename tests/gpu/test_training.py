"""Chains and networks in training on the kernels of the GPU."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F

import effops
from tests.ops.chains import cases

CASES = list(cases())


@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_step_is_that_of_float64(backend, device, case):
    """Outputs, gradients and running statistics."""
    with effops.backend(backend.name):
        actual = case.to(torch.float32, device=device).step()
    with effops.backend("reference"):
        eager = case.to(torch.float32, device=device).step()
        exact = case.to(torch.float64, device=device).step()
    for key, e in exact.items():
        scale = max(e.norm().item(), 1e-3)
        error, allowed = (actual[key] - e).norm().item() / scale, 2 * (eager[key] - e).norm().item() / scale + 1e-5
        assert error <= allowed, f"{case} {key}: {error:.3g}, allowed {allowed:.3g}"


@pytest.mark.parametrize("memory", ["default", "low"])
def test_a_network_learns_in_bfloat16(backend, device, memory):
    torch.manual_seed(0)
    model = effops.create_model("efficientnet_b0", num_classes=10).to(device, memory_format=torch.channels_last).train()
    effops.nn.set_memory(model, memory)
    images, labels = torch.randn(16, 3, 96, 96, device=device), torch.arange(16, device=device) % 10
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    losses = []
    for _ in range(10):
        optimizer.zero_grad()
        with effops.backend(backend.name), torch.autocast(device.type, torch.bfloat16):
            loss = F.cross_entropy(model(images).float(), labels)
            loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert all(value == value for value in losses) and losses[-1] < losses[0]


def test_eval_of_a_network_agrees_with_the_reference(backend, device):
    torch.manual_seed(0)
    model = effops.create_model("mobilenetv3_large_100").to(device).eval()
    exact = copy.deepcopy(model).double()
    x = torch.randn(2, 3, 160, 160, device=device)
    with torch.no_grad():
        with effops.backend("reference"):
            expected, eager = exact(x.double()), model(x)
        with effops.backend(backend.name):
            actual = model(x)
    assert (actual - expected).norm() <= 2 * (eager - expected).norm() + 1e-5 * expected.norm()
