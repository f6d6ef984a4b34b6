"""What a peer is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar, TypeVar

import torch

from bench.case import Case, Provider
from bench.training.step import TrainingCase, TrainingStep

REGISTRY: list[Peer] = []

P = TypeVar("P", bound="type[Peer]")


class Peer(ABC):
    """A way to run networks; what it serves says which of the classes below it derives from.

    Attributes:
        name: on the command line, in the CSV and in plots.
        summary: one line for ``python -m bench peers``.
        place: where it stands in tables and plots, low first.
        compiles: preparing it takes many seconds, so that --quick and --no-compile leave it out.
    """

    name: ClassVar[str]
    summary: ClassVar[str]
    place: ClassVar[int]
    compiles: ClassVar[bool] = False

    def missing(self) -> str | None:
        """Why this peer cannot run on this machine, or None."""
        return None

    def unsuited(self, batch: int, dtype: torch.dtype) -> str | None:
        """Why this peer has no answer to cases of so many images in this dtype, on any machine, or None."""
        return None


class EvalPeer(Peer):
    """A way to run a network or an op in eval.

    Attributes:
        single_ops: it is compared on single ops too; preparing whole networks alone is worth its time otherwise.
        saves_memory: it differs from another peer in memory alone, and takes part in that suite alone.
        reads_onnx: it runs the plain network's ONNX file.
        imports: what its user imports, in this order, before there is a model.
    """

    single_ops: ClassVar[bool] = True
    saves_memory: ClassVar[bool] = False
    reads_onnx: ClassVar[bool] = False
    imports: ClassVar[tuple[str, ...]] = ("torch",)

    @abstractmethod
    def prepare(self, case: Case) -> Provider:
        """Do everything that happens once: copy, convert, compile. The runner makes the first call."""


class TrainingPeer(Peer):
    """A way to train a network."""

    @abstractmethod
    def prepare_training(self, case: TrainingCase) -> TrainingStep:
        """Do everything that happens once: copy, convert, compile. The runner makes the first step."""


def register(peer: P) -> P:
    """Class decorator: add the peer to the registry."""
    REGISTRY.append(peer())
    return peer
