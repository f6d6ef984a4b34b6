"""Every model of effops as one call (``make test-slow``)."""

from __future__ import annotations

import gc

import pytest
import torch

import effops
from effops.ops import extension
from tests.tape.nets import images, made

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(extension.module is None, reason="needs the CPU kernels"),
]


@pytest.mark.parametrize("name", effops.list_models())
@torch.no_grad()
def test_one_call_equals_the_modules(name):
    model, x = made(name), images(1, 96)
    want = model(x)
    # The classifier's product and global pooling are not torch's own: nothing else may differ.
    got = effops.compile_cpu(model, x)(x)
    assert (got - want).abs().max() <= 1e-5 * want.abs().max()
    print(f"\nTAPE {name}: {(got - want).abs().max() / want.abs().max():.1e} {model.compile_report}")
    del model
    gc.collect()
