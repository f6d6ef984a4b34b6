"""Settings that hold for every test."""

import os
from contextlib import suppress

import pytest
import torch

with suppress(ImportError):  # machines with a GPU may lack it
    from hypothesis import settings

    # The same examples in every run; HYPOTHESIS_PROFILE=default looks for new ones.
    settings.register_profile("repeatable", derandomize=True, database=None)
    settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "repeatable"))


@pytest.fixture(autouse=True)
def same_numbers():
    """No test draws other numbers for the tests that ran before it."""
    torch.manual_seed(0)


@pytest.fixture(autouse=True, scope="session")
def one_thread():
    """Small tensors on two threads spend their time waking threads; tests of threading set their own number."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
