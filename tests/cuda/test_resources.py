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


@pytest.mark.parametrize(
    "line",
    [
        "ld.global.u8 \t%rs1, [%rd1];",
        "ld.global.nc.L1::no_allocate.b8 %r2, [%rd1+3];",
        "ld.volatile.shared.s8 %r, [a];",
    ],
)
def test_knows_byte_loads(line):
    assert resources.BYTE_LOAD.search(f"\t@%p1 {line}\n")


@pytest.mark.parametrize(
    "line", ["ld.global.u16 %rs1, [%rd1];", "ld.param.u8 %rs1, [act];", "st.global.u8 [%rd1], %rs1;"]
)
def test_knows_other_accesses(line):
    assert resources.BYTE_LOAD.search(f"\t{line}\n") is None


@pytest.mark.parametrize("copy", ["memcpy(y, x, 16);", "*y = *x;"])
def test_refuses_kernels_that_read_byte_by_byte(nvcc, tmp_path, copy):
    """Even from 16-byte vectors, memcpy does: the alignment of a pointer's type does not reach it."""
    source = tmp_path / "copy.cu"
    source.write_text(f"__global__ void copy(const uint4* x, uint4* y) {{ {copy} }}\n")
    if "memcpy" not in copy:
        assert [row.kernel for row in resources.compile_one(source, "90", nvcc)] == ["copy"]
    else:
        with pytest.raises(SystemExit, match=r"copy\.cu reads byte by byte on sm_90"):
            resources.compile_one(source, "90", nvcc)
