"""The CUDA kernels on the host, built once."""

import pytest

from . import host_build


@pytest.fixture(scope="session")
def host():
    if host_build.compiler() is None:
        pytest.skip("no g++ on the PATH: the CUDA kernels' source cannot be compiled for the host")
    return host_build.Host()


def _guarded(host, order):
    host.set_order(order)
    host.violations()
    yield order
    assert host.violations() == 0, "a kernel wrote beside its outputs"


@pytest.fixture
def shuffled(host):
    """Threads run in a shuffled order; outputs must have untouched neighbours."""
    yield from _guarded(host, "shuffled")


@pytest.fixture(params=host_build.ORDERS)
def order(request, host):
    """Each order of the threads in turn; outputs must have untouched neighbours."""
    yield from _guarded(host, request.param)
