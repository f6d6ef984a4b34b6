"""Sample inputs and the tolerance rule, shared by the tests and the benches."""

from .kernel_samples import KernelSample, kernel_samples
from .samples import Sample, samples
from .tolerance import assert_as_good_as_eager, largest_error

__all__ = ["KernelSample", "Sample", "assert_as_good_as_eager", "kernel_samples", "largest_error", "samples"]
