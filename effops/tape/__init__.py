"""Whole networks as one call: ``effops.compile_cpu``."""

from .compile import compile_cpu, uncompile

__all__ = ["compile_cpu", "uncompile"]
