"""Whose network a name means, and that effops answers with the same function."""

from __future__ import annotations

import pytest
import torch

from bench.errors import BenchError
from bench.networks import Origin, find_origin, plain_network
from bench.suites import models
from bench.verify import relative_error
from effops.errors import ArgumentError
from tests import peers
from tests.bench.rows import ENVIRONMENT

peers.timm()


@pytest.mark.parametrize(
    ("name", "origin"),
    [
        ("efficientnet_b4", Origin("effops", "efficientnet_b4")),
        ("efficientnet_b0.ra_in1k", Origin("effops", "efficientnet_b0.ra_in1k")),
        ("timm/efficientnet_b4", Origin("timm", "efficientnet_b4")),
        ("mnasnet_small", Origin("timm", "mnasnet_small")),
        ("torchvision/mobilenet_v2", Origin("torchvision", "mobilenet_v2")),
        ("shufflenet_v2_x0_5", Origin("torchvision", "shufflenet_v2_x0_5")),
    ],
)
def test_a_name_is_found_where_a_user_would_expect_it(name, origin):
    peers.torchvision()
    assert find_origin(name) == origin


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("mnasnet_smal", "unknown model 'mnasnet_smal': did you mean mnasnet_small"),
        ("timm/mnasnet_smal", "unknown model of timm 'mnasnet_smal': did you mean mnasnet_small"),
        ("torchvision/mobilenet_v4", "unknown model of torchvision 'mobilenet_v4': did you mean mobilenet_v"),
        ("tim/mnasnet_small", "unknown library 'tim': did you mean timm"),
    ],
)
def test_an_unknown_name_is_told_with_near_ones(name, said):
    peers.torchvision()
    with pytest.raises(BenchError, match=said):
        find_origin(name)


def test_an_unknown_tag_is_told_with_the_known_ones():
    with pytest.raises(ArgumentError, match="ra_in1k"):
        find_origin("efficientnet_b0.ra_in2k")


@pytest.mark.parametrize(
    ("name", "resolution"),
    [("efficientnet_b4", 380), ("timm/efficientnet_b4", 320), ("torchvision/efficientnet_b4", 380)],
)
def test_networks_have_their_own_resolution(name, resolution):
    peers.torchvision()
    (task,) = models.tasks([name], [1], None, torch.float32, ENVIRONMENT)
    assert task.key.resolution == resolution


@pytest.mark.parametrize(
    ("name", "source"),
    [
        ("mobilenetv3_small_050", "timm "),
        ("timm/mobilenetv3_small_050", "timm "),
        ("torchvision/mobilenet_v3_small", "torchvision "),
    ],
)
def test_effops_answers_with_the_same_function(name, source):
    peers.torchvision()
    network = plain_network(name)
    assert network.source.startswith(source)
    assert network.source.endswith("fused copy") == ("/" in name)
    images = torch.randn(1, 3, 64, 64)
    with torch.inference_mode():
        assert relative_error(network.subject()(images), network.module.double()(images.double())) < 1e-4


def test_a_network_that_cannot_be_fused_is_no_subject():
    with pytest.raises(BenchError, match="nothing to fuse in vit_tiny_patch16_224"):
        plain_network("timm/vit_tiny_patch16_224").subject()
