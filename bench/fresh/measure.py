"""One case, every provider in fresh processes, in turns; what they give is judged before their figures count."""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from torch import Tensor

from bench.measure import CaseResult, Measurement
from bench.networks import Network
from bench.noise import ForeignLoad
from bench.peers import EvalPeer
from bench.progress import Watcher
from bench.statistics import quantile
from bench.timing import order_of_round
from bench.verify import Outputs, allowed_error, judge, relative_error

from .process import ask
from .work import Request


@dataclass(frozen=True)
class FreshResult(CaseResult):
    """With the figures of every provider that gave a right result: one of each name for every repetition."""

    figures: Mapping[str, Mapping[str, list[float]]] = field(default_factory=dict)

    def median(self, provider: str, name: str) -> float | None:
        """The median of a figure, or None where the provider has none of that name."""
        values = self.figures.get(provider, {}).get(name)
        return quantile(values, 0.5) if values else None


@dataclass(frozen=True)
class FreshCase:
    """A network, images for it in float32, and what providers run it in."""

    network: Network
    images: Tensor
    dtype: torch.dtype
    threads: int

    def request(self, job: str, folder: Path, peer: EvalPeer | None = None, onnx: Path | None = None) -> Request:
        return Request(
            job=job,
            provider=peer.name if peer else "",
            imports=peer.imports if peer else ("torch",),
            network=str(folder / "network.pt"),
            images=str(folder / "images.pt"),
            onnx=str(onnx) if onnx else "",
            dtype=str(self.dtype).removeprefix("torch."),
            threads=self.threads,
            outputs=str(folder / "outputs.pt"),
            answer=str(folder / "answer.json"),
        )


@torch.inference_mode()
def _exact(case: FreshCase) -> tuple[Outputs, float]:
    """The result in float64, and what a provider may err."""
    images = case.images.to(case.dtype)
    module = copy.deepcopy(case.network.module).to(case.dtype)
    eager = module(images)
    exact = module.double()(images.double())
    return exact, allowed_error(relative_error(eager, exact), case.dtype)


class _Runs:
    """The repetitions of one provider."""

    def __init__(self, peer: EvalPeer, case: FreshCase, exact: Outputs, allowed: float):
        why = peer.missing() or peer.unsuited(len(case.images), case.dtype)
        if not why and peer.saves_memory and case.network.origin.library != "effops":
            why = "only effops' own models are built without weights here"
        self.peer = peer
        self.measurement = Measurement(peer.name, "skipped", why) if why else Measurement(peer.name, "ok")
        self.figures: dict[str, list[float]] = {}
        self._exact, self._allowed = exact, allowed

    @property
    def going(self) -> bool:
        return self.measurement.status == "ok"

    def fail(self, why: str) -> None:
        self.measurement = Measurement(self.peer.name, "failed", why)
        self.figures.clear()

    def take(self, answer: Mapping[str, float | str], outputs: Path) -> None:
        if "error" in answer:
            self.fail(str(answer["error"]))
            return
        verdict = judge(torch.load(outputs), self._exact, self._allowed)
        self.measurement = replace(self.measurement, verdict=verdict)
        if not verdict.right:
            self.measurement = replace(self.measurement, status="wrong", reason=verdict.reason)
            self.figures.clear()
            return
        for name, value in answer.items():
            self.figures.setdefault(name, []).append(float(value))


def measure_fresh(
    case: FreshCase, job: str, peers: Sequence[EvalPeer], repetitions: int, watcher: Watcher
) -> FreshResult:
    """Give the job to every provider, each time in a new process; who fails or is wrong is not asked again.

    The ONNX file that engines read is written by a process of its own in every repetition, so that neither its seconds
    nor its memory are theirs; its seconds are among their figures as ``export_s``.
    """
    watcher.announce("float64 result")
    exact, allowed = _exact(case)
    runs = {peer.name: _Runs(peer, case, exact, allowed) for peer in peers}
    foreign = ForeignLoad()
    watcher.plan(repetitions)
    with tempfile.TemporaryDirectory(prefix="effops-bench-") as name:
        folder = Path(name)
        case.network.save(folder / "network.pt")
        torch.save(case.images, folder / "images.pt")
        for repetition in range(repetitions):
            onnx = _export(case, folder, list(runs.values()), watcher)
            for peer in order_of_round(list(peers), repetition):
                run = runs[peer.name]
                if not run.going:
                    continue
                watcher.announce(f"{peer.name}: a fresh process")
                request = case.request(job, folder, peer, onnx if peer.reads_onnx else None)
                run.take(ask(request), Path(request.outputs))
            watcher.round_done()
    figures = {name: run.figures for name, run in runs.items()}
    return FreshResult([run.measurement for run in runs.values()], {}, repetitions, foreign.share(), figures)


def _export(case: FreshCase, folder: Path, runs: Sequence[_Runs], watcher: Watcher) -> Path | None:
    """The network as an ONNX file where an engine wants it; engines fail where it cannot be had."""
    engines = [run for run in runs if run.going and run.peer.reads_onnx]
    if not engines:
        return None
    watcher.announce("exporting to ONNX")
    path = folder / "network.onnx"
    answer = ask(case.request("export", folder, onnx=path))
    for run in engines:
        if "error" in answer:
            run.fail(f"the export to ONNX failed: {answer['error']}")
        else:
            run.figures.setdefault("export_s", []).append(answer["export_s"])
    return path
