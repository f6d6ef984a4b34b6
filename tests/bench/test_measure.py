"""Verification before timing: wrong, failing and missing providers are not timed and say why."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import nn

from bench.case import Case, Provider
from bench.errors import BenchError
from bench.measure import measure
from bench.peers import EvalPeer, Peer, registry
from bench.peers.eager import Eager, EagerChannelsLast
from bench.peers.effops import Effops
from bench.selection import select, timed
from bench.timing import CallFailed, Schedule
from bench.verify import allowed_error, judge, relative_error

QUICK = Schedule(rounds=2, sample_seconds=0.0, warmup_seconds=0.0)


class FakePeer(EvalPeer):
    """A peer whose function is given."""

    summary = "a fake"
    place = 9

    def __init__(self, name, function=None, missing=None, unsuited=None):
        self.name = name
        self._function = function
        self._missing = missing
        self._unsuited = unsuited

    def missing(self):
        return self._missing

    def unsuited(self, batch, dtype):
        return self._unsuited and f"{self._unsuited}; got {batch} in {dtype}"

    def prepare(self, case: Case) -> Provider:
        return Provider(self._function, case.inputs)


def small_case() -> Case:
    torch.manual_seed(0)
    module = nn.Conv2d(3, 4, 3).eval().requires_grad_(False)
    return Case(module, [(torch.randn(2, 3, 8, 8),)], fused=lambda: module, dtype=torch.float32)


def status_of(peer: Peer, case: Case):
    (measurement,) = measure(case, [peer], QUICK).measurements
    return measurement


def test_right_providers_are_timed():
    result = measure(small_case(), [Effops(), Eager(), EagerChannelsLast()], QUICK)
    assert [m.provider for m in result.measurements] == ["effops", "eager", "channels_last"]
    for measurement in result.measurements:
        assert measurement.status == "ok"
        assert 0 < measurement.summary.p20 <= measurement.summary.p50 <= measurement.summary.p80
        assert measurement.verdict.error < 1e-5


def test_a_wrong_provider_is_disqualified_and_not_timed():
    case = small_case()
    calls = []

    def slightly_wrong(x):
        calls.append(1)
        return case.module(x) * 1.001

    measurement = status_of(FakePeer("liar", slightly_wrong), case)
    assert measurement.status == "wrong"
    assert "relative error" in measurement.reason
    assert measurement.summary is None
    assert len(calls) == 1


@pytest.mark.parametrize(
    ("spoil", "said"), [(lambda y: y[:, :2], "shape"), (lambda y: y * math.nan, "relative error inf")]
)
def test_wrong_shapes_and_values_that_are_not_finite_are_disqualified(spoil, said):
    case = small_case()
    measurement = status_of(FakePeer("liar", lambda x: spoil(case.module(x))), case)
    assert measurement.status == "wrong"
    assert said in measurement.reason


def test_a_failing_provider_says_how_and_the_others_go_on():
    case = small_case()

    def fail(x):
        raise RuntimeError("no compiler\nlong story")

    broken, eager = measure(case, [FakePeer("broken", fail), Eager()], QUICK).measurements
    assert (broken.status, broken.reason) == ("failed", "RuntimeError: no compiler")
    assert eager.status == "ok"


def test_a_provider_that_fails_while_it_is_timed_leaves_the_rounds():
    case = small_case()
    calls = []

    def tires(x):
        calls.append(1)
        if len(calls) > 3:
            raise MemoryError("no more")
        return case.module(x)

    tired, eager = measure(case, [FakePeer("tired", tires), Eager()], QUICK).measurements
    assert (tired.status, tired.reason, tired.summary) == ("failed", "MemoryError: no more", None)
    assert eager.status == "ok" and eager.summary is not None


def test_a_failing_extra_is_nobodys_failure():
    def fail():
        raise RuntimeError("no copy")

    with pytest.raises(CallFailed, match="copy: no copy"):
        measure(small_case(), [Eager()], QUICK, extras={"copy": Provider(fail, [()])})


def test_plain_torch_that_fails_is_told():
    case = replace(small_case(), inputs=[(torch.randn(2, 5, 8, 8),)])
    with pytest.raises(BenchError, match="plain torch fails, so that nobody can be judged: RuntimeError"):
        measure(case, [Eager()], QUICK)


def test_a_missing_peer_is_skipped_with_its_reason():
    measurement = status_of(FakePeer("absent", missing="onnxruntime is not installed"), small_case())
    assert (measurement.status, measurement.reason) == ("skipped", "onnxruntime is not installed")


def test_a_peer_without_an_answer_to_the_case_is_skipped_with_its_reason():
    measurement = status_of(FakePeer("odd", unsuited="it takes odd batches"), small_case())
    assert (measurement.status, measurement.reason) == ("skipped", "it takes odd batches; got 2 in torch.float32")


def test_extras_are_timed_in_the_same_rounds_and_not_judged():
    buffers = (torch.empty(8), torch.zeros(8))
    result = measure(small_case(), [Eager()], QUICK, extras={"copy": Provider(torch.Tensor.copy_, [buffers])})
    assert result.extras["copy"].p50 > 0
    assert [m.provider for m in result.measurements] == ["eager"]


def test_the_error_is_the_worst_of_all_outputs():
    exact = (torch.tensor([1.0, -2.0]), torch.tensor([0.5]))
    assert relative_error((torch.tensor([1.0, -2.0]), torch.tensor([0.4])), exact) == pytest.approx(0.2)
    assert relative_error(torch.zeros(0, 3), torch.zeros(0, 3)) == 0.0


def test_low_precision_may_err_as_eager_does():
    torch.manual_seed(0)
    exact = torch.randn(1000, dtype=torch.float64)
    rounded = exact.to(torch.bfloat16)
    allowed = allowed_error(relative_error(rounded, exact), torch.bfloat16)
    assert judge(rounded, exact, allowed).right
    assert not judge(rounded * 1.05, exact, allowed).right


def test_the_registry_finds_the_peers_and_effops_comes_first():
    names = list(registry())
    assert names[0] == "effops"
    assert {"eager", "channels_last", "compile"} <= set(names)
    assert list(registry()) == names


def test_selection_keeps_effops_and_tells_why_others_are_left_out():
    everything = timed(registry(EvalPeer))
    chosen = select(everything, ["channels_last"], compile=True, quick=False)
    assert [peer.name for peer in chosen.peers] == ["effops", "effops_modules", "channels_last"]
    quick = select(everything, [], compile=True, quick=True)
    assert "compile" in quick.left_out and "--quick" in quick.left_out["compile"]
    named = select(everything, ["compile"], compile=True, quick=True)
    assert "compile" in [peer.name for peer in named.peers]
    without = select(everything, ["compile"], compile=False, quick=False)
    assert "--no-compile" in without.left_out["compile"]
    with pytest.raises(BenchError, match="did you mean channels_last"):
        select(everything, ["channel_last"], compile=True, quick=False)
