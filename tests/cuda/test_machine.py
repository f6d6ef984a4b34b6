"""That the host run of CUDA kernels sees the bugs that it is there to see."""

import subprocess

import pytest

from . import host_build

ROOT = host_build.ROOT


@pytest.fixture(scope="module")
def output():
    """What machine.cu prints, line by line."""
    if host_build.compiler() is None:
        pytest.skip("no g++ on the PATH")
    program = host_build.build_program(ROOT / "tests" / "cuda" / "machine.cu")
    return subprocess.run([str(program)], capture_output=True, text=True, check=True).stdout.splitlines()


@pytest.fixture(scope="module")
def wrong(output):
    """Wrong elements by kernel: one number an order of the threads."""
    columns = zip(*(map(int, line.split()) for line in output[:3]), strict=True)
    names = ("right", "no barrier after load", "no barrier before next load", "copied", "no wait for copies", "others")
    return dict(zip(names, columns, strict=True))


def test_right_kernels_are_right_in_every_order(wrong):
    assert wrong["right"] == wrong["copied"] == wrong["others"] == (0, 0, 0)


@pytest.mark.parametrize("bug", ["no barrier after load", "no barrier before next load", "no wait for copies"])
def test_a_missing_wait_shows_in_every_order(wrong, bug):
    assert all(count > 0 for count in wrong[bug])


def test_errors_tell_the_kernel_the_threads_and_the_lines(output):
    expected = (
        ("divergent_barrier", "thread 0 waits at the barrier of machine.cu:", "thread 40 has ended"),
        ("two_barriers", "thread 0 waits at the barrier of machine.cu:", "thread 64 waits at the barrier"),
        ("divergent_shuffle", "thread 1 waits in the warp operation of machine.cu:", "thread 0 has ended"),
        ("element_past_the_end", "thread 127", "element 128 is not in [0, 128) of 4 bytes each"),
        ("misaligned_vector", "is not aligned as its vector"),
        ("pointer_past_the_end", "a store past the end of a shared array"),
        ("copies_left_behind", "thread 3", "ends with copies under way"),
    )
    assert len(output) == 3 + len(expected)
    for error, parts in zip(output[3:], expected, strict=True):
        assert all(part in error for part in parts), error
