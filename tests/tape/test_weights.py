"""Where the weights of a compiled model lie: packed, lent by the model, or left in their file."""

from __future__ import annotations

import copy
import gc
import sys
import weakref
from pathlib import Path

import pytest
import torch

import effops
from effops.ops import extension
from effops.tape.weights import Weights
from tests.tape.nets import close, images, made

pytestmark = pytest.mark.skipif(extension.module is None, reason="needs the CPU kernels")

linux = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


def _resident_file_bytes(path: Path) -> int:
    """How much of a file is in this process."""
    found, inside = 0, False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        if line.split(maxsplit=1)[0].count("-") == 1 and ":" not in line.split()[0]:
            inside = line.endswith(str(path))
        elif inside and line.startswith("Rss:"):
            found += int(line.split()[1]) << 10
    return found


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@torch.no_grad()
def test_lent_weights_may_change_in_every_way(dtype):
    """Squeeze-and-excitation is read where it lies; a new value, new memory and a new tensor are all seen."""
    model = made().to(dtype)
    x = images().to(dtype)
    compiled = effops.compile_cpu(copy.deepcopy(model), x)
    lent = [tensor.data_ptr() for tensor in compiled._tapes.weights.store.lenders]
    assert compiled.blocks[0][0].se.conv_reduce.weight.data_ptr() in lent
    for change in (
        lambda weight: weight.mul_(3.0),
        lambda weight: weight.data.mul_(-1.0),
        lambda weight: setattr(weight, "data", weight.data * 2.0),
    ):
        before = compiled(x)
        for one in (model, compiled):
            change(one.blocks[0][0].se.conv_reduce.weight)
        want = model(x)
        assert (want - before).abs().max() > 1e-5 * want.abs().max()
        close(compiled(x), want)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@torch.no_grad()
def test_lent_memory_stays_while_a_record_does(dtype):
    """Somebody may give a weight other memory while a record runs."""
    x = images().to(dtype)
    compiled = effops.compile_cpu(made().to(dtype), x)
    tape = compiled._tapes.calls.get((True, dtype), x)
    want = tape.run(x)
    for parameter in compiled.parameters():
        parameter.data = torch.full_like(parameter, 1e30)
    gc.collect()
    assert torch.equal(tape.run(x), want)


@torch.no_grad()
def test_lent_memory_goes_with_the_records():
    weight = torch.randn(64)
    weights = Weights([weight])
    kept = weakref.ref(weight.untyped_storage())
    del weight
    weights.settle()
    assert weights.store.bytes == 0
    del weights
    gc.collect()
    assert kept() is None


@linux
@torch.no_grad()
def test_pages_of_a_mapped_checkpoint_go_once_packed(tmp_path):
    """What torch.load maps and assign=True takes over is clean pages of a file; the packed weights stand for them."""
    path = tmp_path / "weights.pt"
    model = made("mobilenetv3_large_100")
    torch.save(model.state_dict(), path)
    mapped = effops.create_model("mobilenetv3_large_100").eval()
    mapped.load_state_dict(torch.load(path, mmap=True), assign=True)
    weights = sum(parameter.nbytes for parameter in model.parameters())
    x = images(1)
    want = mapped(x)
    if _resident_file_bytes(path) < weights // 2:
        pytest.skip("this system does not map the file")
    effops.compile_cpu(mapped, x)
    close(mapped(x), want)
    assert _resident_file_bytes(path) < weights // 8
    # They come back for whoever reads them.
    for name, value in mapped.state_dict().items():
        assert torch.equal(value, model.state_dict()[name])
    mapped.conv_head.weight.mul_(1.5)
    model.conv_head.weight.mul_(1.5)
    close(mapped(x), model(x))
