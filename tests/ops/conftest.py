"""Fixtures of the op tests: every instruction set that this processor runs."""

import pytest

import effops
from effops.ops import extension


def pytest_generate_tests(metafunc):
    if "isa" in metafunc.fixturenames:
        isas = extension.module.available_isas() if extension.module else []
        metafunc.parametrize("isa", isas, indirect=True)


@pytest.fixture
def isa(request):
    """Run on the CPU backend with one instruction set."""
    before = extension.module.isa()
    extension.module.set_isa(request.param)
    with effops.backend("cpu"):
        yield request.param
    extension.module.set_isa(before)
