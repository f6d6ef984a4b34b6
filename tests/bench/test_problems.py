"""The op problems cover the networks, and the plain networks are the plain networks."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from torch import nn

from bench.limits import Limit
from bench.networks import enliven, plain_network
from bench.plain import PlainNetwork
from bench.problems import DepthwiseConv
from bench.shapes import problems
from bench.suites.models import NAMES
from bench.suites.ops import OPS, quick_subset, unique_problems
from effops import ops
from effops.arch import find_arch, parts, total
from effops.models import create_model
from effops.ops.introspection import prepared

FP32 = torch.float32


def cost(problem, batch=1):
    weights, inputs = problem.weights(problem.module()), problem.inputs(batch, FP32)
    op, arguments = problem.apply(partial(prepared, problem.op), weights, inputs)
    return op.cost(*arguments)


@pytest.mark.parametrize("name", NAMES)
def test_the_problems_of_a_network_are_all_of_its_convolutions(name):
    arch = find_arch(name)
    classifier = arch.head.channels * 1000
    macs = sum(cost(problem).macs for problem in problems(arch))
    assert macs + classifier == total(parts(arch)).macs


def test_problems_are_unique_and_have_unique_labels():
    found = unique_problems(NAMES, OPS)
    assert len({problem.label for problem in found}) == len(found)
    assert [OPS.index(p.op) for p in found] == sorted(OPS.index(p.op) for p in found)
    only = unique_problems(NAMES, ("se_gate",))
    assert only and {problem.op for problem in only} == {"se_gate"}


def test_the_quick_subset_has_a_few_of_every_op():
    subset = quick_subset(unique_problems(NAMES, OPS))
    for op in OPS:
        assert 1 <= sum(problem.op == op for problem in subset) <= 3


SMALL = [problem for problem in unique_problems(["mobilenetv3_small_100"], OPS)]


@pytest.mark.parametrize("problem", SMALL, ids=lambda problem: problem.label)
def test_the_unfused_module_and_effops_agree(problem):
    torch.manual_seed(0)
    module = problem.module().double().requires_grad_(False)
    inputs = tuple(None if value is None else value.double() for value in problem.inputs(2, FP32))
    outputs = problem.apply(getattr(ops, problem.op), problem.weights(module), inputs)
    torch.testing.assert_close(outputs, module(*inputs))


def test_same_padding_matches_tensorflow_at_stride_2():
    problem = DepthwiseConv(size=7, kernel_size=3, stride=2, padding="same", act="identity", channels=4, pool=False)
    module = problem.module()
    (x,) = problem.inputs(1, FP32)
    # 7 pixels, 4 outputs: one zero before and one after. 8 pixels: none before, one after.
    torch.testing.assert_close(module(x), nn.functional.conv2d(x, *problem.weights(module), 2, 1, groups=4))
    x = torch.randn(1, 4, 8, 8)
    padded = nn.functional.pad(x, (0, 1, 0, 1))
    torch.testing.assert_close(module(x), nn.functional.conv2d(padded, *problem.weights(module), 2, groups=4))


def test_the_longer_of_copy_and_arithmetic_binds():
    assert Limit.of(macs=1000, copy_seconds=1.0, gemm_gflops=100.0) == Limit(1.0, "bandwidth")
    assert Limit.of(macs=10**9, copy_seconds=0.001, gemm_gflops=100.0) == Limit(0.02, "arithmetic")


def test_enlivened_networks_keep_their_values_alive():
    torch.manual_seed(0)
    model = create_model("mobilenetv2_035").eval()
    enliven(model)
    assert not model.training
    assert all(n.momentum == 0.1 for n in model.modules() if isinstance(n, nn.BatchNorm2d))
    with torch.inference_mode():
        features = model.forward_features(torch.randn(2, 3, 96, 96))
    assert 0.05 < features.std().item() < 20


@pytest.mark.parametrize("name", ["mobilenetv2_035", "tf_mobilenetv3_small_075", "efficientnet_lite0"])
def test_the_plain_network_is_the_same_network_unfused(name):
    torch.manual_seed(0)
    model = create_model(name)
    enliven(model)
    plain = PlainNetwork(find_arch(name))
    plain.load_state_dict(model.state_dict())
    images = torch.randn(2, 3, 65, 63)
    with torch.inference_mode():
        torch.testing.assert_close(plain.eval()(images), model.eval()(images), rtol=1e-3, atol=1e-4)
    plain.double().train()
    model.double().train()
    torch.testing.assert_close(plain(images.double()), model(images.double()), rtol=1e-6, atol=1e-6)


def test_the_plain_network_stands_in_where_timm_has_none():
    network = plain_network("mobilenet_v2")
    assert isinstance(network.module, PlainNetwork)
    assert not network.module.training
    assert network.source.startswith("plain modules")
