"""Every error that effops raises on purpose: what was wrong, what came, what was expected, and the remedy."""

from __future__ import annotations


class EffopsError(Exception):
    """Base of all errors that effops raises on purpose."""


class ArgumentError(EffopsError, ValueError):
    """An argument has the wrong shape, dtype, device or value."""


class BackendError(EffopsError, RuntimeError):
    """The backend that was asked for cannot run this call."""


class CheckpointError(EffopsError, ValueError):
    """A checkpoint cannot be read, or does not belong to the model it was to be loaded into."""


class ExportError(EffopsError):
    """A model could not be exported, or its file does not answer as it does."""


class FuseError(EffopsError, RuntimeError):
    """A model could not be fused as asked for; it is as it was before."""
