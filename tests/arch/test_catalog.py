"""Names, and what tells the twins of a name apart."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import pytest

import effops.arch
from effops.arch import ARCHS, find_arch, find_port, list_archs
from effops.errors import ArgumentError


def test_globs_select_and_sort():
    assert list_archs("efficientnet_b?") == [f"efficientnet_b{i}" for i in range(9)]
    assert list_archs("tf_*lite[34]") == ["tf_efficientnet_lite3", "tf_efficientnet_lite4"]
    assert list_archs("no such model") == []
    assert list_archs() == sorted(ARCHS)


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("efficientnet_b9", "efficientnet_b"),
        ("mobilenetv2", "mobilenet_v2"),
        ("tf_effnet_lite0", "tf_efficientnet_lite0"),
    ],
)
def test_an_unknown_name_suggests_near_ones(typed, meant):
    with pytest.raises(ArgumentError, match=f"unknown model '{typed}'; did you mean .*{meant}"):
        find_arch(typed)


def test_a_name_near_nothing_points_to_the_list():
    with pytest.raises(ArgumentError, match="list_models"):
        find_arch("resnet50")


@pytest.mark.parametrize("name", list_archs("tf_*"))
def test_tensorflow_twins_differ_in_padding_and_eps_alone(name):
    twin, native = find_arch(name), find_arch(name.removeprefix("tf_"))
    assert (twin.padding, twin.bn_eps) == ("same", 1e-3)
    assert (native.padding, native.bn_eps) == ("symmetric", 1e-5)
    assert twin.same_layers(native)
    assert find_port(native, "tensorflow") == twin


@pytest.mark.parametrize(
    ("name", "eps", "momentum"),
    [
        ("mobilenet_v2", 1e-5, 0.1),
        ("mobilenet_v3_large", 1e-3, 0.01),
        ("mobilenet_v3_small", 1e-3, 0.01),
        ("tv_efficientnet_b4", 1e-5, 0.1),
        ("tv_efficientnet_b5", 1e-3, 0.01),
        ("tv_efficientnet_b7", 1e-3, 0.01),
    ],
)
def test_torchvision_rows_have_torchvisions_batch_norm(name, eps, momentum):
    arch = find_arch(name)
    assert (arch.bn_eps, arch.bn_momentum, arch.padding) == (eps, momentum, "symmetric")


@pytest.mark.parametrize("name", list_archs("*efficientnet_b*"))
def test_the_crop_never_asks_for_more_than_was_resized(name):
    preprocessing = find_arch(name).preprocessing
    if not name.startswith("tv_"):
        assert int(preprocessing.resolution / preprocessing.crop_pct) == preprocessing.resolution + 32


def test_arch_needs_only_the_standard_library_and_the_errors():
    """So that a planner can read networks without torch."""
    for file in Path(effops.arch.__file__).parent.glob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and not node.level:
                names = [node.module]
            else:
                continue
            for name in names:
                known = name.split(".")[0] in sys.stdlib_module_names or name == "effops.errors"
                assert known, f"{file.name} imports {name}"
