"""What ``dry_run``, ``strict`` and ``verify`` promise."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import effops
from effops.fuse import convert
from effops.fuse.program import ChainProgram
from effops.fuse.swap import FusedModule
from tests.fuse.handwritten import ScaledResidual
from tests.fuse.nets import image, net


def test_a_second_conversion_finds_the_first():
    model = effops.fuse(net())
    classes = [type(module) for module in model.modules()]
    rows = effops.fuse(model, strict=True).fuse_report.rows
    assert {row.state for row in rows} == {"already fused"} and len(rows) == 4
    assert classes == [type(module) for module in model.modules()]


def test_dry_run_changes_nothing():
    model = net()
    classes = [type(module) for module in model.modules()]
    before, random = {k: v.clone() for k, v in model.state_dict().items()}, torch.get_rng_state()
    report = effops.fuse(model, dry_run=True).fuse_report
    assert report.dry_run and len(report.fused) == 4 and "would be fused" in str(report)
    assert classes == [type(module) for module in model.modules()]
    assert torch.equal(random, torch.get_rng_state())
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())


def test_strict_names_what_would_be_left():
    model = nn.Sequential(nn.Conv2d(3, 8, 1, bias=False), nn.BatchNorm2d(8), ScaledResidual(8, 8)).eval()
    with pytest.raises(effops.FuseError, match=r"1 blocks of Sequential would be left: 2: 5 conv.*known order"):
        effops.fuse(model, strict=True)
    assert not any(isinstance(module, FusedModule) for module in model.modules())
    with pytest.raises(effops.FuseError, match="nothing in Linear can be fused"):
        effops.fuse(nn.Linear(2, 2), strict=True)


def test_verify_undoes_a_wrong_program(monkeypatch):
    """A program that leaves the last activation out, as a wrong reading would give it."""
    right = convert.make_plan

    def wrong(model: nn.Module) -> object:
        found = right(model)
        for i, (module, program) in enumerate(found.swaps):
            if isinstance(program, ChainProgram):
                *others, last = program.units
                units = (*others, type(last)(last.conv, last.norm, gate=last.gate))
                found.swaps[i] = (module, ChainProgram(units, program.residual, program.drop, program.around))
        return found

    model = net().train()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    random = torch.get_rng_state()
    monkeypatch.setattr(convert, "make_plan", wrong)
    with pytest.raises(effops.FuseError, match="in eval the output differs"):
        effops.fuse(model, verify=image())
    assert not any(isinstance(module, FusedModule) for module in model.modules())
    assert model.training and not hasattr(model, "fuse_report")
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert all(p.grad is None for p in model.parameters()) and torch.equal(random, torch.get_rng_state())


def test_verify_in_training_compares_gradients(monkeypatch):
    model = effops.fuse(net().train(), verify=image(4))
    assert model.fuse_report.shares.macs > 0.99 and model.fuse_report.shares.bytes > 0.8
    broken = nn.Sequential(nn.Conv2d(3, 4, 1, bias=False), nn.BatchNorm2d(4), nn.ReLU()).train()
    monkeypatch.setattr("effops.ops.training._update", lambda *_: None)
    with pytest.raises(effops.FuseError, match=r"in training buffer 1\.running_mean differs"):
        effops.fuse(broken, verify=image(4))


def test_bad_arguments_are_told():
    with pytest.raises(effops.ArgumentError, match=r"model must be a torch.nn.Module; got str"):
        effops.fuse("efficientnet_b0")
    with pytest.raises(effops.ArgumentError, match="verify must be a tensor or a tuple"):
        effops.fuse(net(), verify="x")
    with pytest.raises(effops.ArgumentError, match="verify must be an input of the model, which fails"):
        effops.fuse(net(), verify=torch.zeros(1, 7, 8, 8))
