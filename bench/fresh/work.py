"""What a fresh process does: export a network, start a provider, or measure the memory of one."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from bench import resident
from bench.case import Case, Provider
from bench.measure import reason
from bench.networks import Network, load_network
from bench.onnx_files import export
from bench.peers import EvalPeer, registry

_FIRST_CALLS = 3
_LATER_CALLS = 3


@dataclass(frozen=True, kw_only=True)
class Request:
    """What the process is to do.

    Attributes:
        job: "export", "start" or "memory".
        imports: what a user of the provider imports; timed first of all.
        network, images: files that :meth:`bench.networks.Network.save` and ``torch.save`` wrote; both float32.
        onnx: the network as an ONNX file, read by engines and written by "export"; "" for none.
        outputs: where the first result goes, for the parent to judge.
        answer: where the figures go, as JSON.
    """

    job: str
    provider: str = ""
    imports: tuple[str, ...] = ("torch",)
    network: str
    images: str
    onnx: str = ""
    dtype: str
    threads: int
    outputs: str
    answer: str


def answer(request: Mapping[str, Any]) -> dict[str, Any]:
    """The figures of a request, or ``error`` with what went wrong."""
    asked = Request(**request)
    torch.set_num_threads(asked.threads)
    images = torch.load(asked.images)
    network = load_network(Path(asked.network))
    try:
        return _JOBS[asked.job](asked, network, images)
    # A provider may fail in any way that its compiler or library knows; the row says how.
    except Exception as error:
        return {"error": reason(error)}


def _export(asked: Request, network: Network, images: Tensor) -> dict[str, float]:
    begin = time.perf_counter()
    export(network.module, images, Path(asked.onnx))
    return {"export_s": time.perf_counter() - begin}


def _case(asked: Request, network: Network, images: Tensor, subject: Callable[[], nn.Module]) -> Case:
    dtype = getattr(torch, asked.dtype)
    case = Case(
        module=copy.deepcopy(network.module).to(dtype) if dtype != torch.float32 else network.module,
        inputs=[(images.to(dtype),)],
        fused=lambda: subject().to(dtype, memory_format=torch.channels_last),
        dtype=dtype,
        onnx=Path(asked.onnx) if asked.onnx else None,
    )
    # Images come in the layout that a user's loader gives them; nobody is charged for turning these.
    case.channels_last_inputs  # noqa: B018
    return case


def _provider(peer: EvalPeer, case: Case) -> Provider:
    # Users make their models outside of inference mode; tensors made inside have no version counter.
    with torch.inference_mode(False):
        return peer.prepare(case)


def _model_at_hand(network: Network) -> Callable[[], nn.Module]:
    """A user of effops has its model where others have the plain one; fusing a copy of that is work of the start."""
    if network.origin.library != "effops":
        return network.subject
    with torch.inference_mode(False):
        model = network.subject()
    return lambda: model


@torch.inference_mode()
def _start(asked: Request, network: Network, images: Tensor) -> dict[str, float]:
    case = _case(asked, network, images, _model_at_hand(network))
    peer = registry(EvalPeer)[asked.provider]
    begin = time.perf_counter()
    provider = _provider(peer, case)
    prepared = time.perf_counter()
    outputs = provider.function(*provider.inputs[0])
    end = time.perf_counter()
    torch.save(outputs, asked.outputs)
    return {"prepare_s": prepared - begin, "first_call_s": end - prepared}


@torch.inference_mode()
def _memory(asked: Request, network: Network, images: Tensor) -> dict[str, float]:
    case = _case(asked, network, images, network.subject)
    peer = registry(EvalPeer)[asked.provider]
    if peer.saves_memory and network.origin.library == "effops":
        weights = Path(asked.outputs).with_name("weights.pt")
        torch.save(case.module.state_dict(), weights)
        case = replace(case, mapped=lambda: network.mapped_subject(weights))
    resident.trim()
    resident.reset_peak()
    before = resident.resident_bytes()
    provider = _provider(peer, case)
    outputs = [provider.function(*provider.inputs[0]) for _ in range(_FIRST_CALLS)]
    peak = resident.peak_bytes() - before
    torch.save(outputs[0], asked.outputs)
    del outputs
    resident.reset_peak()
    for _ in range(_LATER_CALLS):
        provider.function(*provider.inputs[0])
    return {"peak_bytes": peak, "steady_bytes": resident.peak_bytes() - before}


_JOBS = {"export": _export, "start": _start, "memory": _memory}
