"""When a build has CUDA kernels, for which architectures, and what it says when it cannot."""

import sys
from pathlib import Path

import pytest

from .host_build import ROOT

sys.path.insert(0, str(ROOT / "buildtools"))

from build_error import BuildError
from cuda_toolkit import find_cuda
from find_torch import Torch, find_torch

CPU_TORCH, CUDA_TORCH = Torch(Path("/torch"), "2.13.0+cpu"), Torch(Path("/torch"), "2.13.0+cu130", "13.0")


@pytest.fixture
def toolkit(tmp_path, monkeypatch):
    """Makes a toolkit of a version that knows some architectures, and an environment that asks for nothing else."""
    for name in ("EFFOPS_CUDA", "TORCH_CUDA_ARCH_LIST", "CUDA_PATH"):
        monkeypatch.delenv(name, raising=False)

    def made(version="13.0.88", architectures=(80, 86, 89, 90, 100, 120)):
        nvcc = tmp_path / "bin" / "nvcc"
        nvcc.parent.mkdir()
        listed = "".join(f"echo compute_{number}\n" for number in architectures)
        nvcc.write_text(f'#!/bin/sh\nif [ "$1" = --version ]; then echo "V{version}"; else\n{listed}fi\n')
        nvcc.chmod(0o755)
        monkeypatch.setenv("CUDA_HOME", str(tmp_path))

    monkeypatch.setenv("CUDA_HOME", str(tmp_path / "absent"))
    return made


def test_a_cuda_torch_and_nvcc_are_enough(toolkit):
    toolkit()
    cuda, _ = find_cuda(CUDA_TORCH)
    assert cuda.version == "13.0.88"
    assert cuda.architectures == ("8.0", "8.6", "8.9", "9.0", "10.0", "12.0+PTX")
    assert cuda.flags[-1] == "-gencode=arch=compute_120,code=compute_120"


def test_a_torch_for_the_cpu_wants_to_be_asked(toolkit, monkeypatch):
    toolkit()
    assert find_cuda(CPU_TORCH) == (
        None,
        "this torch is built for the CPU alone; EFFOPS_CUDA=1 builds the CUDA kernels nevertheless",
    )
    monkeypatch.setenv("EFFOPS_CUDA", "1")
    assert find_cuda(CPU_TORCH)[0] is not None
    monkeypatch.setenv("EFFOPS_CUDA", "0")
    assert find_cuda(CUDA_TORCH) == (None, "EFFOPS_CUDA=0")


def test_architectures_as_the_toolkit_allows(toolkit, monkeypatch):
    toolkit(version="12.4.131", architectures=(80, 86, 89, 90))
    assert find_cuda(Torch(Path("/torch"), "2.11.0", "12.6"))[0].architectures == ("8.0", "8.6", "8.9", "9.0+PTX")
    monkeypatch.setenv("TORCH_CUDA_ARCH_LIST", "8.0 9.0+PTX")
    assert find_cuda(Torch(Path("/torch"), "2.11.0", "12.6"))[0].architectures == ("8.0", "9.0+PTX")


@pytest.mark.parametrize(
    ("version", "variables", "message"),
    [
        (None, {}, "nvcc is not found: CUDA_HOME .* has none"),
        ("11.8.89", {}, r"nvcc 11.8.89 is too old: 12.3 or later"),
        ("12.4.131", {}, "nvcc 12.4.131 and torch, built for CUDA 13.0, differ in their major version"),
        ("13.0.88", {"TORCH_CUDA_ARCH_LIST": "volta"}, "must be a list such as .*; got 'volta'"),
        ("13.0.88", {"TORCH_CUDA_ARCH_LIST": "5.0;9.0"}, r"does not compile for 5.0 of TORCH_CUDA_ARCH_LIST"),
    ],
)
def test_asked_for_and_impossible(toolkit, monkeypatch, version, variables, message):
    if version:
        toolkit(version)
    for name, value in {"EFFOPS_CUDA": "1", **variables}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(BuildError, match=f"(?s){message}.*Remedy: "):
        find_cuda(CUDA_TORCH)


def test_no_nvcc_and_nobody_asks(toolkit):
    assert find_cuda(CUDA_TORCH)[1].startswith("nvcc is not found")


def test_what_torch_says_of_itself():
    import torch

    found = find_torch()
    assert (found.version, found.cuda) == (torch.__version__, torch.version.cuda)
