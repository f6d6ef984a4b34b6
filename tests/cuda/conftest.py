"""The CUDA kernels on the host, built once."""

import pytest

from . import host_build


@pytest.fixture(scope="session")
def host():
    if host_build.compiler() is None:
        pytest.skip("no g++ on the PATH: the CUDA kernels' source cannot be compiled for the host")
    return host_build.Host()


@pytest.fixture(params=host_build.ORDERS)
def order(request, host):
    """Every order of the threads gives the same results; outputs have untouched neighbours."""
    host.set_order(request.param)
    host.violations()
    yield request.param
    assert host.violations() == 0, "a kernel wrote beside its outputs"
