"""What timm says of the weights that it distributes."""

from __future__ import annotations

import pytest

from effops.arch import find_arch, list_archs
from effops.arch.weight_sets import weight_sets
from effops.errors import ArgumentError
from tests import peers


def test_every_set_is_as_timm_has_it():
    peers.timm()
    from timm.models import get_pretrained_cfg

    for name, known in weight_sets().items():
        theirs, ours = get_pretrained_cfg(name), known.preprocessing
        assert ours.resolution == (theirs.test_input_size or theirs.input_size)[1], name
        assert ours.crop_pct == (theirs.test_crop_pct or theirs.crop_pct), name
        assert (ours.crop_mode, ours.interpolation) == (theirs.crop_mode, theirs.interpolation), name
        assert (ours.mean, ours.std) == (tuple(theirs.mean), tuple(theirs.std)), name
        assert known.num_classes == theirs.num_classes, name


def test_every_set_of_our_models_is_there():
    distributed = {name for name in peers.timm().list_pretrained() if name.partition(".")[0] in list_archs()}
    assert set(weight_sets()) == distributed


def test_a_tag_chooses_preprocessing_and_classes():
    arch = find_arch("tf_efficientnetv2_s.in21k")
    assert (arch.name, arch.tag, arch.num_classes, arch.resolution) == ("tf_efficientnetv2_s", "in21k", 21843, 384)
    assert arch.same_layers(find_arch("tf_efficientnetv2_s"))


def test_a_pattern_with_a_dot_lists_tags():
    assert list_archs("efficientnetv2_rw_?.*") == [
        "efficientnetv2_rw_m.agc_in1k",
        "efficientnetv2_rw_s.ra2_in1k",
        "efficientnetv2_rw_t.ra2_in1k",
    ]


def test_an_unknown_tag_is_refused_with_those_that_there_are():
    with pytest.raises(ArgumentError, match=r"unknown weights 'x' of model 'efficientnet_b4'; its tags are ra2_in1k"):
        find_arch("efficientnet_b4.x")
    with pytest.raises(ArgumentError, match="it has none"):
        find_arch("mobilenetv1_025.x")
