"""The op problems cover the networks, and the plain networks are the plain networks."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from torch import nn

from bench.errors import BenchError
from bench.limits import Limit
from bench.networks import enliven, plain_network
from bench.plain import PlainNetwork
from bench.problems import DepthwiseConv, PointwiseConv, SqueezeExciteGate
from bench.shapes import problems, without_ops
from bench.suites.models import NAMES
from bench.suites.ops import OPS, quick_subset, unique_problems
from effops import ops
from effops.arch import find_arch, list_archs, parts, total
from effops.models import create_model
from effops.ops.introspection import prepared
from tests import peers

FP32 = torch.float32


def cost(problem, batch=1):
    weights, inputs = problem.weights(problem.module()), problem.inputs(batch, FP32)
    op, arguments = problem.apply(partial(prepared, problem.op), weights, inputs)
    return op.cost(*arguments)


def macs_of(problem) -> int:
    """Multiply-accumulates of a problem for one image, without building it."""
    if isinstance(problem, SqueezeExciteGate):
        return 2 * problem.channels * problem.reduced
    if isinstance(problem, PointwiseConv):
        return problem.size**2 * problem.in_channels * problem.out_channels
    after = -(-problem.size // problem.stride) if problem.padding == "same" else None
    after = after or (problem.size + 2 * problem.padding - problem.kernel_size) // problem.stride + 1
    weights = problem.channels if isinstance(problem, DepthwiseConv) else problem.in_channels * problem.out_channels
    return after**2 * problem.kernel_size**2 * weights


@pytest.mark.parametrize("name", NAMES)
def test_the_problems_count_as_the_ops_do(name):
    for problem in unique_problems([name], OPS):
        assert macs_of(problem) == cost(problem).macs


@pytest.mark.parametrize("name", list_archs())
def test_the_problems_of_a_network_are_all_of_its_convolutions(name):
    arch = find_arch(name)
    found = list(problems(arch))
    left_out = without_ops(arch)
    convs = [conv for conv in arch.convs() if conv.name not in left_out]
    gates = [conv for conv in convs if conv.gating]
    blurs = sum(conv.anti_alias == "blur" for conv in arch.convs())
    # The two layers of a squeeze-excite are one problem, and the filter of an anti-aliasing is one more.
    assert len(found) == len(convs) - len(gates) // 2 + blurs
    macs = sum(map(macs_of, found)) + arch.classifier_channels * arch.num_classes
    whole = total(parts(arch)).macs
    products = any(block.attention_macs(1, 1) for _, block in arch.blocks())
    if left_out or products:
        assert 0 < macs < whole
    elif blurs:
        assert macs > whole
    else:
        assert macs == whole
    assert bool(left_out) == any(
        part in name for part in ("_cc_", "_g8_", "_g16_", "mobilenet_edgetpu_v2", "mobilenetv5")
    )


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("mobilenetv4_conv_small", [("depthwise", "k3 s1 identity"), ("conv", "k3 s2 relu")]),
        ("mobilenetv4_conv_aa_medium", [("depthwise", "k5 s1 relu")]),
        ("mobilenetv4_conv_blur_medium", [("depthwise", "k3 s2 identity")]),
        ("mobilenetv4_hybrid_medium", [("depthwise", "k3 s2 identity"), ("pointwise", "160>256 identity")]),
        ("efficientnetv2_s", [("conv", "k3 s1 silu"), ("pointwise", "192>48 identity +residual")]),
        ("efficientnet_b0_gn", [("depthwise", "k3 s1 identity")]),
        ("mobilenetv1_100", [("pointwise", "32>64 relu6")]),
        ("efficientnet_cc_b0_4e", [("depthwise", "k3 s1 silu +pool")]),
    ],
)
def test_blocks_of_every_kind_have_their_ops(name, wanted):
    labels = [problem.label for problem in problems(find_arch(name))]
    for kind, shape in wanted:
        assert any(label.startswith(kind) and shape in label for label in labels), (shape, labels)


def test_an_op_that_no_network_has_is_told():
    with pytest.raises(BenchError, match="mobilenetv1_100 has no se_gate"):
        unique_problems(["mobilenetv1_100"], ["se_gate"])


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


# Blocks of every kind that timm lacks a network of, and a head without and with a norm.
_PLAIN = [
    *("mobilenetv2_035", "tf_mobilenetv3_small_075", "efficientnet_lite0", "mobilenetv1_025", "mobilenet_multi_avg"),
    *("efficientnetv2_b0", "mobilenetv4_conv_medium_seg", "mobilenetv3_small_minimal_100"),
]


@pytest.mark.parametrize("name", _PLAIN)
def test_the_plain_network_is_the_same_network_unfused(name):
    torch.manual_seed(0)
    model = create_model(name)
    enliven(model)
    plain = PlainNetwork(find_arch(name))
    plain.load_state_dict(model.state_dict())
    images = torch.randn(2, 3, 65, 63)
    with torch.inference_mode():
        torch.testing.assert_close(plain.eval()(images), model.eval()(images), rtol=1e-3, atol=1e-4)
        assert plain(images).std() > 0.01
    plain.double().train()
    model.double().train()
    torch.testing.assert_close(plain(images.double()), model(images.double()), rtol=1e-6, atol=1e-6)


def test_every_network_that_timm_lacks_has_plain_modules():
    timm = peers.timm()
    lacking = [name for name in list_archs() if not timm.is_model(name)]
    assert len(lacking) > 30
    for name in lacking:
        with torch.device("meta"):
            plain = PlainNetwork(find_arch(name))
            wanted = create_model(name).state_dict()
        assert {key: value.shape for key, value in plain.state_dict().items()} == {
            key: value.shape for key, value in wanted.items()
        }


@pytest.mark.parametrize(
    ("name", "part"),
    [
        ("mobilenetv4_hybrid_medium", "attention and layer scale"),
        ("efficientnet_cc_b0_4e", "mixed kernels"),
        ("efficientnet_b0_gn", "group norm"),
        ("efficientnet_blur_b0", "anti-aliasing"),
    ],
)
def test_what_timm_alone_has_in_plain_torch_is_refused(name, part):
    with pytest.raises(BenchError, match=f"{name} has {part}, which"):
        PlainNetwork(find_arch(name))


def test_the_plain_network_stands_in_where_timm_has_none():
    network = plain_network("mobilenet_v2")
    assert isinstance(network.module, PlainNetwork)
    assert not network.module.training
    assert network.source.startswith("plain modules")
