"""csrc/cuda/resources.csv tells what nvcc makes of the kernels as they are."""

import importlib.util

import pytest

from .host_build import ROOT

_spec = importlib.util.spec_from_file_location("cuda_resources", ROOT / "scripts" / "cuda_resources.py")
resources = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(resources)

STALE = "csrc/cuda/resources.csv is older than the kernels: make cuda-report"


def test_the_table_is_of_this_code():
    found = {(row.source, row.fingerprint, row.arch) for row in resources.recorded()}
    prints = {p.name: resources.fingerprint(p) for p in resources.sources()}
    assert found == {(source, mark, arch) for source, mark in prints.items() for arch in resources.ARCHITECTURES}, STALE


def test_no_kernel_spills():
    assert resources.spills(resources.recorded()) == []


@pytest.fixture(scope="module")
def nvcc():
    home = resources.find_home()
    if home is None or resources.shutil.which("c++filt") is None:
        pytest.skip("nvcc or c++filt is not on this machine")
    return home / "bin" / "nvcc"


@pytest.mark.parametrize(
    "source",
    [pytest.param(p, marks=[] if p.name == "reductions.cu" else pytest.mark.slow) for p in resources.sources()],
)
def test_regenerated(nvcc, source):
    """Minutes for the larger files; one architecture, as the fingerprints tell what the others were compiled from."""
    rows = resources.measure([(source, "90")], nvcc)
    assert resources.differences(rows, resources.recorded()) == []
