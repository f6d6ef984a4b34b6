"""Order of the rounds, samples and rotation, on a clock that only the calls move."""

from __future__ import annotations

import gc
import threading
import time
from collections import Counter

import pytest

from bench.idle import until_idle
from bench.progress import Watcher
from bench.statistics import Summary, quantile
from bench.timing import CallFailed, RotatingCall, Schedule, interleave, order_of_round, sets_past_cache, warm_up


class Machine:
    """A clock and functions that take exactly as long as they are told."""

    def __init__(self) -> None:
        self.now = 0.0
        self.calls: list[str] = []

    def clock(self) -> float:
        return self.now

    def function(self, name: str, seconds: float):
        def call() -> None:
            self.calls.append(name)
            self.now += seconds

        return call


class RoundCounter(Watcher):
    planned = done = 0

    def plan(self, rounds: int) -> None:
        self.planned = rounds

    def round_done(self) -> None:
        self.done += 1


def test_every_provider_takes_every_place_equally_often():
    names = ["a", "b", "c"]
    orders = [order_of_round(names, index) for index in range(6)]
    for place in range(3):
        assert Counter(order[place] for order in orders) == {"a": 2, "b": 2, "c": 2}


def test_no_provider_always_follows_the_same_one():
    orders = [order_of_round(["a", "b", "c"], index) for index in range(6)]
    followers = {(order[i], order[i + 1]) for order in orders for i in range(2)}
    assert {("a", "b"), ("b", "a"), ("b", "c"), ("c", "b")} <= followers


def test_samples_are_seconds_a_call_and_rounds_interleave():
    machine = Machine()
    calls = {"fast": machine.function("fast", 0.001), "slow": machine.function("slow", 0.05)}
    schedule = Schedule(rounds=4, sample_seconds=0.01, warmup_seconds=0.0)
    watcher = RoundCounter()
    samples = interleave(
        calls, schedule, clock=machine.clock, watcher=watcher, rest=lambda: machine.calls.append("rest")
    )
    # One before every sample.
    assert machine.calls.count("rest") == 8
    machine.calls = [name for name in machine.calls if name != "rest"]
    assert samples["fast"] == pytest.approx([0.001] * 4)
    assert samples["slow"] == pytest.approx([0.05] * 4)
    assert (watcher.planned, watcher.done) == (4, 4)
    # One call warms up; a round is one untimed call and as many timed ones as fill the sample.
    assert Counter(machine.calls) == {"fast": 1 + 4 * (1 + 10), "slow": 1 + 4 * (1 + 1)}
    turns = [name for name, previous in zip(machine.calls[2:], machine.calls[1:], strict=False) if name != previous]
    assert len(turns) >= 4


class Pool:
    """Threads that spin for a while, on a clock that sleeping moves."""

    def __init__(self, spins: float):
        self.now, self._spins = 0.0, spins

    def sleep(self, seconds: float) -> None:
        self.now += seconds

    def used(self) -> float:
        return min(self.now, self._spins)


@pytest.mark.parametrize(
    ("spins", "rests", "least", "most"), [(0.0, True, 0.0, 0.005), (0.04, True, 0.04, 0.05), (9.0, False, 0.5, 0.51)]
)
def test_threads_come_to_rest_or_are_given_up(spins, rests, least, most):
    pool = Pool(spins)
    assert until_idle(lambda: pool.now, pool.used, pool.sleep) is rests
    assert least <= pool.now <= most


def test_real_threads_are_waited_for():
    def spin() -> None:
        while time.perf_counter() < end:
            pass

    end = time.perf_counter() + 0.2
    thread = threading.Thread(target=spin)
    thread.start()
    # Looks long enough that a busy machine lets the thread run within each.
    until_idle(sleep=lambda _: time.sleep(0.05))
    assert time.perf_counter() >= end
    thread.join()


@pytest.mark.parametrize(("seconds", "rounds"), [(0.01, 20), (1.0, 10), (9.0, 3)])
def test_long_calls_have_fewer_rounds_but_not_too_few(seconds, rounds):
    machine = Machine()
    schedule = Schedule(20, 0.0, 0.0, case_seconds=10.0, fewest=3, settles=False)
    samples = interleave({"a": machine.function("a", seconds)}, schedule, clock=machine.clock)
    assert len(samples["a"]) == rounds
    # The warm-up, and no untimed calls.
    assert len(machine.calls) == 1 + rounds


def test_the_untimed_call_of_a_round_stays_out_of_the_sample():
    machine = Machine()
    costs = iter([1.0, 9.0, 1.0, 9.0, 1.0])

    def cold_then_warm() -> None:
        machine.now += next(costs)

    schedule = Schedule(rounds=2, sample_seconds=1.0, warmup_seconds=0.0)
    assert interleave({"only": cold_then_warm}, schedule, clock=machine.clock) == {"only": [1.0, 1.0]}


@pytest.mark.parametrize("good_calls", [0, 1, 2])
def test_who_fails_is_named(good_calls):
    machine = Machine()
    counted = machine.function("b", 0.1)

    def fails() -> None:
        if machine.calls.count("b") == good_calls:
            raise ValueError("enough")
        counted()

    with pytest.raises(CallFailed) as failure:
        interleave({"a": machine.function("a", 0.1), "b": fails}, Schedule(2, 0.0, 0.0), clock=machine.clock)
    assert failure.value.name == "b" and str(failure.value.error) == "enough"
    assert gc.isenabled()


def test_the_watcher_knows_whose_turn_it_is():
    turns = []
    watcher = Watcher()
    watcher.turn_of = turns.append
    interleave({"a": lambda: None, "b": lambda: None}, Schedule(2, 0.0, 0.0), watcher=watcher)
    # Both warm up; then two rounds.
    assert turns == ["a", "b", "a", "b", "b", "a"]


def test_warm_up_lasts_as_long_as_asked():
    machine = Machine()
    warm = warm_up(machine.function("a", 0.1), seconds=0.45, sample_seconds=0.25, clock=machine.clock)
    assert warm.repeats == 3
    assert warm.seconds == pytest.approx(0.1)
    assert len(machine.calls) == 5


def test_the_collector_rests_while_sampling_and_works_again_afterwards():
    seen = []
    interleave({"a": lambda: seen.append(gc.isenabled())}, Schedule(2, 0.0, 0.0))
    assert seen[0] is True and not any(seen[1:])
    assert gc.isenabled()


def test_rotation_uses_every_input_set_and_keeps_as_many_results():
    seen = []

    class Result:
        alive = 0

        def __init__(self) -> None:
            Result.alive += 1

        def __del__(self) -> None:
            Result.alive -= 1

    def function(value: int) -> Result:
        seen.append(value)
        return Result()

    call = RotatingCall(function, [(1,), (2,), (3,)])
    for _ in range(7):
        call()
    assert seen == [1, 2, 3, 1, 2, 3, 1]
    assert Result.alive == 3


@pytest.mark.parametrize(("bytes_per_call", "sets"), [(1 << 20, 64), (1 << 25, 2), (1 << 30, 2), (100, 512), (0, 512)])
def test_the_rotation_is_twice_the_cache_within_bounds(bytes_per_call, sets):
    assert sets_past_cache(bytes_per_call, 1 << 25) == sets


def test_quantiles_match_the_definition():
    assert quantile([4, 1, 3, 2, 5], 0.5) == 3
    assert quantile([1, 2], 0.2) == pytest.approx(1.2)
    assert quantile([7], 0.8) == 7
    with pytest.raises(ValueError, match="no samples"):
        quantile([], 0.5)


def test_a_summary_ignores_one_outlier():
    summary = Summary.of([1.0] * 9 + [100.0])
    assert (summary.p20, summary.p50, summary.p80) == (1.0, 1.0, 1.0)
