"""Who runs a call on a GPU, and why: the table and the choice, with CUDA tensors that hold no memory."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch
from torch._subclasses import FakeTensorMode

import effops
from effops import ops
from effops.ops import backends
from effops.ops.table import OPS


@pytest.fixture(autouse=True)
def pretended() -> Iterator[None]:
    with FakeTensorMode():
        yield


@pytest.fixture
def having(monkeypatch):
    """Pretend that these GPU backends are built and installed, and no other; ``rows`` may say whom the rows name."""

    def have(*names: str, rows: dict[str, tuple[str, ...]] | None = None) -> None:
        for name in ("cuda", "triton"):
            missing = None if name in names else f"{name} is not here"
            monkeypatch.setitem(backends.BACKENDS, name, replace(backends.BACKENDS[name], missing=missing))
        for row, served in (rows or {}).items():
            monkeypatch.setitem(OPS, row, replace(OPS[row], backends={**OPS[row].backends, "cuda": served}))

    return have


def depthwise(dtype: torch.dtype = torch.bfloat16) -> tuple[torch.Tensor, torch.Tensor]:
    x = torch.empty(2, 8, 6, 6, dtype=dtype, device="cuda")
    return x, torch.empty(8, 1, 3, 3, dtype=dtype, device="cuda")


def chosen(dtype: torch.dtype = torch.bfloat16) -> str:
    return effops.explain("depthwise_conv_act", *depthwise(dtype), padding=1).backend


def test_every_row_has_kernels_in_both_gpu_backends():
    for op in OPS.values():
        assert op.backends["cuda"] == ("cuda", "triton") == backends._served_by(op, "cuda"), op.name


def test_the_first_of_the_row_that_is_here(having):
    having("cuda", "triton", rows={"depthwise_conv_act": ("cuda", "triton")})
    assert chosen() == "cuda"
    having("cuda", "triton", rows={"depthwise_conv_act": ("triton", "cuda")})
    assert chosen() == "triton"
    having("triton", rows={"depthwise_conv_act": ("cuda", "triton")})
    assert chosen() == "triton"
    having()
    assert chosen() == "reference"


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16], ids=str)
def test_dtypes_of_the_kernels(having, dtype):
    having("triton")
    assert chosen(dtype) == "triton"


def test_what_no_kernel_takes_runs_on_the_reference_and_says_why(having):
    having("cuda", "triton")
    found = effops.explain("depthwise_conv_act", *depthwise(torch.float64), padding=1)
    assert found.backend == "reference"
    assert "float32, bfloat16, float16; got torch.float64" in found.reasons["triton"]


def test_a_forced_backend_runs_or_raises(having):
    having("triton", rows={"depthwise_conv_act": ("cuda",)})
    with (
        effops.backend("triton"),
        pytest.raises(effops.BackendError, match="it has no kernel for depthwise_conv_act on cuda"),
    ):
        ops.depthwise_conv_act(*depthwise())
    with pytest.raises(effops.BackendError, match="'cuda' is not available: cuda is not here"), effops.backend("cuda"):
        pass
    with effops.backend("cpu"), pytest.raises(effops.BackendError, match="it serves cpu; the tensors are on cuda"):
        ops.depthwise_conv_act(*depthwise())


def test_results_are_on_the_device(having):
    having("triton")
    y, mean = ops.depthwise_conv_act(*depthwise(), padding=1, pool=True)
    assert (y.device.type, y.shape, y.dtype) == ("cuda", (2, 8, 6, 6), torch.bfloat16)
    assert (mean.device.type, mean.dtype) == ("cuda", torch.float32)


def test_a_whole_block_is_made_of_parts_where_it_has_no_kernel(having):
    having("triton", rows={"mbconv": ()})
    x, weight = depthwise()
    project = torch.empty(4, 8, 1, 1, dtype=x.dtype, device="cuda"), None
    assert ops.mbconv(x, None, (weight, None), project, padding=1).shape == (2, 4, 6, 6)
    assert effops.explain("mbconv", x, None, (weight, None), project, padding=1).backend == "triton"
    with effops.backend("triton"):
        assert ops.mbconv(x, None, (weight, None), project, padding=1).shape == (2, 4, 6, 6)


def test_a_chain_runs_on_one_backend_that_has_all_its_rows(having):
    x, norm = torch.empty(2, 8, 6, 6, device="cuda"), ops.BatchNorm(None, None, None, None)
    layers = [
        ops.Layer("pointwise", torch.empty(16, 8, 1, 1, device="cuda"), norm),
        ops.Layer("depthwise", torch.empty(16, 1, 3, 3, device="cuda"), norm, padding=1),
    ]
    having("cuda", "triton", rows={"pointwise_conv_stats": ("triton",)})
    assert effops.explain("conv_bn_chain", x, layers).backend == "triton"
    having("cuda", "triton", rows={name: ("cuda", "triton") for name in OPS})
    assert effops.explain("conv_bn_chain", x, layers).backend == "cuda"
