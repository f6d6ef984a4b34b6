"""Training steps: the same for all providers, verified before they are timed, with what they hold in memory."""

from __future__ import annotations

import math
import sys

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import effops.nn
from bench.errors import BenchError
from bench.peers import TrainingPeer, registry
from bench.peers.eager import Eager, EagerChannelsLast
from bench.peers.effops import Effops, EffopsLow
from bench.progress import Watcher
from bench.suites import train
from bench.timing import Schedule
from bench.training.measure import measure_training
from bench.training.memory import HeldBytes, StepMemory, peak_growth
from bench.training.profiling import BACKWARD, FORWARD, by_op, collect, ops_table
from bench.training.step import TrainingCase, TrainingStep
from bench.training.verify import (
    GRADIENT,
    LOSS,
    STATISTIC,
    allowed_errors,
    exact_results,
    gather,
    judge,
    relative_errors,
)
from tests.bench.rows import ENVIRONMENT

QUICK = Schedule(rounds=2, sample_seconds=0.0, warmup_seconds=0.0, settles=False)
FP32, BF16 = torch.float32, torch.bfloat16


class SmallNetwork(nn.Module):
    """Convolution, batch norm, activation, and one more with a bias that batch norm takes away."""

    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 8, 3)
        self.bn1 = nn.BatchNorm2d(8)
        self.conv2 = nn.Conv2d(8, 8, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(8)
        self.classifier = nn.Linear(8, 5)

    def forward(self, x):
        x = F.hardswish(self.bn1(self.conv1(x)))
        return self.classifier(self.bn2(self.conv2(x)).relu().mean((2, 3)))


def small_case(dtype=FP32, fused=None) -> TrainingCase:
    torch.manual_seed(0)
    module = SmallNetwork()

    def same() -> nn.Module:
        copied = SmallNetwork()
        copied.load_state_dict(module.state_dict())
        return copied.to(memory_format=torch.channels_last)

    images, labels = torch.randn(4, 3, 12, 12), torch.tensor([0, 1, 2, 3])
    return TrainingCase(module, images, labels, fused or same, dtype)


def first_step(peer: TrainingPeer, case: TrainingCase):
    step = peer.prepare_training(case)
    loss = step.forward()
    step.backward(loss)
    return gather(step, loss)


def allowed(case: TrainingCase, exact):
    return allowed_errors(
        [relative_errors(first_step(peer, case), exact) for peer in (Eager(), EagerChannelsLast())], case.dtype
    )


def test_a_step_is_sgd_with_momentum_on_the_cross_entropy():
    case = small_case()
    step = Eager().prepare_training(case)
    losses = [step().item() for _ in range(2)]
    module = SmallNetwork()
    module.load_state_dict(case.module.state_dict())
    optimizer = torch.optim.SGD(module.parameters(), lr=1e-3, momentum=0.9)
    for expected in losses:
        optimizer.zero_grad()
        loss = F.cross_entropy(module.train()(case.images), case.labels)
        assert loss.item() == pytest.approx(expected)
        loss.backward()
        optimizer.step()
    for trained, mine in zip(step.module.parameters(), module.parameters(), strict=True):
        torch.testing.assert_close(trained, mine)
        assert trained.grad is None


def test_peers_train_copies_in_their_layout_with_the_same_weights():
    case = small_case()
    before = {name: value.clone() for name, value in case.module.state_dict().items()}
    steps = [peer.prepare_training(case) for peer in (Eager(), EagerChannelsLast(), Effops())]
    losses = [step().item() for step in steps]
    assert losses == pytest.approx([losses[0]] * 3, rel=1e-6)
    for name, value in case.module.state_dict().items():
        assert torch.equal(value, before[name])
    for step in steps[1:]:
        assert step.module.conv1.weight.is_contiguous(memory_format=torch.channels_last)


def test_autocast_runs_layers_in_its_dtype_and_the_loss_in_float32():
    case = small_case(BF16)
    step = Eager().prepare_training(case)
    seen = []
    step.module.conv2.register_forward_hook(lambda module, inputs, output: seen.append(output.dtype))
    assert step.forward().dtype == FP32
    assert seen == [BF16]


def test_right_steps_are_timed():
    result = measure_training(
        small_case(),
        lambda: exact_results(small_case()),
        [Effops(), Eager(), EagerChannelsLast()],
        [Eager(), EagerChannelsLast()],
        QUICK,
        Watcher(),
    )
    assert [m.provider for m in result.measurements] == ["effops", "eager", "channels_last"]
    assert result.rounds == 2
    for measurement in result.measurements:
        assert measurement.status == "ok"
        assert measurement.summary.p50 > 0
        assert measurement.verdict.error <= measurement.verdict.allowed < 1e-3
        assert measurement.memory.held > 0


class Spoiled(SmallNetwork):
    """Wrong in one way that is easily overlooked."""

    def __init__(self, source: nn.Module, how: str):
        super().__init__()
        self.load_state_dict(source.state_dict())
        self._how = how
        if how == "gradient":
            self.conv2.weight.register_hook(lambda gradient: gradient * 1.001)
        elif how == "missing":
            self.bn1.bias.requires_grad_(False)

    def forward(self, x):
        if self._how == "statistics":
            self.bn2.track_running_stats = False
            self.bn2.running_mean, mean = None, self.bn2.running_mean
            self.bn2.running_var, var = None, self.bn2.running_var
            logits = super().forward(x)
            self.bn2.running_mean, self.bn2.running_var = mean, var
            return logits
        logits = super().forward(x)
        return logits * 1.001 if self._how == "loss" else logits


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ("loss", "errs"),
        ("gradient", "gradient of conv2.weight errs"),
        ("missing", "gradient of bn1.bias is missing"),
        ("statistics", "statistic of bn2"),
    ],
)
def test_a_wrong_step_is_disqualified_and_not_timed(how, said):
    case = small_case()
    wrong = TrainingCase(case.module, case.images, case.labels, lambda: Spoiled(case.module, how), FP32)
    yardsticks = [Eager(), EagerChannelsLast()]
    result = measure_training(wrong, lambda: exact_results(case), [Effops(), Eager()], yardsticks, QUICK, Watcher())
    effops_measured, eager = result.measurements
    assert effops_measured.status == "wrong"
    assert said in effops_measured.reason
    assert effops_measured.summary is None and effops_measured.memory is None
    assert eager.status == "ok"


def test_a_failing_and_a_missing_peer_say_why_and_the_others_go_on(monkeypatch):
    def broken():
        raise RuntimeError("no kernel\nlong story")

    monkeypatch.delattr(effops.nn, "set_memory", raising=False)
    case = small_case(fused=broken)
    peers = [Effops(), EffopsLow(), EagerChannelsLast()]
    yardsticks = [Eager(), EagerChannelsLast()]
    measured = measure_training(case, lambda: exact_results(case), peers, yardsticks, QUICK, Watcher()).measurements
    assert [m.status for m in measured] == ["failed", "skipped", "ok"]
    assert measured[0].reason == "RuntimeError: no kernel"
    assert "set_memory" in measured[1].reason


def test_effops_low_turns_the_low_memory_mode_on(monkeypatch):
    calls = []
    monkeypatch.setattr(effops.nn, "set_memory", lambda module, mode: calls.append((module, mode)), raising=False)
    assert EffopsLow().missing() is None
    step = EffopsLow().prepare_training(small_case())
    assert calls == [(step.module, "low")]


def test_a_gradient_that_is_zero_is_measured_against_the_others():
    case = small_case()
    exact = exact_results(case)
    name = GRADIENT, "conv1.bias"
    assert exact[name].norm() < 1e-12
    errors = relative_errors(first_step(Eager(), case), exact)
    assert errors[name] < 1e-5
    spoiled = {**exact, name: exact[name] + 1e-2}
    assert relative_errors(spoiled, exact)[name] > 1e-3


def test_a_tensor_may_err_twice_as_much_as_in_eager_or_as_eager_often_does():
    eager = {(GRADIENT, str(i)): 1e-3 for i in range(20)} | {(GRADIENT, "lucky"): 1e-9, (LOSS, ""): 0.0}
    limits = allowed_errors([eager, {**eager, (GRADIENT, "0"): 1e-1}], FP32)
    assert limits[GRADIENT, "0"] == pytest.approx(0.2, rel=0.01)
    assert limits[GRADIENT, "lucky"] == limits[GRADIENT, "1"] == pytest.approx(2e-3, rel=0.01)
    assert 0 < limits[LOSS, ""] < 1e-5
    assert judge(eager, limits).right
    assert not judge({**eager, (GRADIENT, "lucky"): 1e-2}, limits).right
    wrong = judge({**eager, (GRADIENT, "lucky"): math.inf}, limits)
    assert wrong.reason == "gradient of lucky is missing, of another shape or not finite"


def test_statistics_that_float64_counts_are_compared_too():
    exact = exact_results(small_case())
    assert exact[STATISTIC, "bn1.num_batches_tracked"] == 1
    assert {kind for kind, _ in exact} == {LOSS, GRADIENT, STATISTIC}


def test_held_bytes_are_those_of_distinct_activations():
    x = torch.randn(16, 32, requires_grad=True)
    weight = torch.randn(32, 64, requires_grad=True)
    held = HeldBytes([x, weight])
    with held.watch():
        y = (x @ weight).relu()  # saves its result; the product saves x and the weight, which are outside
        z = y * y.flip(0)  # saves y once more, and what flip made
        z.sum()
    assert held.total == 2 * 16 * 64 * 4


@pytest.mark.skipif(sys.platform != "linux", reason="the peak is read from /proc")
def test_the_peak_is_that_inside():
    memory = StepMemory()
    size = 96 << 20
    with peak_growth(memory):
        torch.ones(size, dtype=torch.uint8)
    if memory.peak is None:
        pytest.skip("this kernel does not let a process reset its peak")
    assert 0.9 * size < memory.peak < 1.5 * size
    smaller = StepMemory()
    with peak_growth(smaller):
        pass
    assert smaller.peak < size // 2


@pytest.fixture(scope="module")
def tiny_tasks():
    """One network in both dtypes, small enough for a test."""
    return train.tasks(["mobilenetv3_small_075"], [4], 64, [FP32, BF16], ENVIRONMENT)


def test_effops_trains_as_timm_does(tiny_tasks):
    peers = [peer for name, peer in registry(TrainingPeer).items() if name in ("effops", "eager", "channels_last")]
    for task in tiny_tasks:
        measured = task.measure(peers, Schedule(1, 0.0, 0.0, settles=False), Watcher()).measurements
        assert [m.status for m in measured] == ["ok"] * 3, [m.reason for m in measured]
        assert all(m.memory.held > 1 << 20 for m in measured)
        assert task.template().network
    assert [task.template().dtype for task in tiny_tasks] == ["float32", "bfloat16"]


def test_the_profile_accounts_for_the_whole_step(tiny_tasks):
    spent = collect(train.profiled(tiny_tasks[0]), steps=1)
    ops = by_op(spent)
    assert sum(phases[FORWARD] for phases in ops.values()) > 0
    assert sum(phases[BACKWARD] for phases in ops.values()) > 0
    totals = [sum(phases.values()) for phases in ops.values()]
    assert totals == sorted(totals, reverse=True)
    assert ops_table("a network", spent).row_count > 3


def test_what_runs_inside_an_effops_op_counts_for_it():
    weight = torch.randn(8, 1, 3, 3)

    class Fused(nn.Module):
        def __init__(self):
            super().__init__()
            self.scale = nn.Parameter(torch.ones(()))

        def forward(self, x):
            y = effops.ops.depthwise_conv_act(x.detach(), weight, padding=1)
            return y.mean((2, 3)) * self.scale

    step = TrainingStep(Fused(), torch.randn(2, 8, 16, 16), torch.tensor([0, 1]))
    ours = [item for item in collect(step, steps=1) if item.ours]
    assert [(item.op, item.phase, item.calls) for item in ours] == [("effops::depthwise_conv_act", FORWARD, 1)]
    assert ours[0].ms > 0
    assert ours[0].shapes.startswith("2x8x16x16 8x1x3x3")


def test_unknown_networks_are_refused_before_anything_runs():
    with pytest.raises(BenchError, match="mobilenetv2_100"):
        train.tasks(["mobilenetv3_small_075", "mobilenetv2_10"], [1], 32, [FP32], ENVIRONMENT)


def test_networks_of_other_libraries_are_refused():
    with pytest.raises(BenchError, match="effops' own models; got 'timm/mobilenetv3_small_075'"):
        train.tasks(["timm/mobilenetv3_small_075"], [1], 32, [FP32], ENVIRONMENT)
