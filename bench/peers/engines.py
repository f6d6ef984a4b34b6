"""Inference engines of others: ONNX Runtime and OpenVINO, on CPUs, on the ONNX file of the plain network."""

from __future__ import annotations

import copy
import importlib.util
from abc import abstractmethod
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor

from bench import device
from bench.case import Case, Provider
from bench.onnx_files import onnx_file

from .base import EvalPeer, register


class Engine(EvalPeer):
    """An engine that compiles a file for images of one shape.

    Attributes:
        packages: what it needs to be installed.
    """

    compiles = True
    single_ops = False
    reads_onnx = True
    packages: ClassVar[tuple[str, ...]]

    def missing(self) -> str | None:
        if device.current().type != "cpu":
            return "it is compared on CPUs"
        absent = [name for name in self.packages if importlib.util.find_spec(name) is None]
        if absent:
            return f"not installed: {', '.join(absent)}; pip install -r requirements/engines.txt"
        return None

    def prepare(self, case: Case) -> Provider:
        # Weights and images of a bfloat16 case are float32 at its door: the engine rounds them itself.
        images = [(x.float().contiguous(),) for (x,) in case.inputs]
        path = case.onnx
        if path is None:
            module = case.module if case.dtype == torch.float32 else copy.deepcopy(case.module).float()
            path = onnx_file(module, images[0][0])
        return Provider(self.load(str(path), case.dtype), images)

    @abstractmethod
    def load(self, path: str, dtype: torch.dtype) -> Callable[[Tensor], Tensor]:
        """Compile the file for inference in a dtype, on as many threads as torch has."""


@register
class OnnxRuntime(Engine):
    name = "onnxruntime"
    summary = "ONNX Runtime, all graph optimisations, CPU provider"
    place = 6
    packages = ("onnx", "onnxscript", "onnxruntime")
    imports = ("onnxruntime",)

    def unsuited(self, batch: int, dtype: torch.dtype) -> str | None:
        return None if dtype == torch.float32 else f"ONNX Runtime convolves in float32 alone on CPUs; got {dtype}"

    def load(self, path: str, dtype: torch.dtype) -> Callable[[Tensor], Tensor]:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        return lambda x: torch.from_numpy(session.run(None, {"images": x.numpy()})[0])


@register
class OpenVino(Engine):
    name = "openvino"
    summary = "OpenVINO, latency hint, on the CPU"
    place = 7
    packages = ("onnx", "onnxscript", "openvino")
    imports = ("openvino",)
    precisions: ClassVar[dict[torch.dtype, str]] = {torch.float32: "f32", torch.bfloat16: "bf16"}

    def unsuited(self, batch: int, dtype: torch.dtype) -> str | None:
        if dtype == torch.float32:
            return None
        import openvino

        can = openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
        if dtype == torch.bfloat16 and "BF16" in can:
            return None
        return f"OpenVINO has no kernels for {dtype} on this processor; it has {', '.join(can)}"

    def load(self, path: str, dtype: torch.dtype) -> Callable[[Tensor], Tensor]:
        request = self.compiled(path, dtype, {"PERFORMANCE_HINT": "LATENCY"}).create_infer_request()
        # Its output buffer is written again by the next call; nobody keeps the one before.
        return lambda x: torch.from_numpy(request.infer({"images": x.numpy()}, share_inputs=True)[0])

    def compiled(self, model: Any, dtype: torch.dtype, settings: Mapping[str, object]) -> Any:
        """OpenVINO's network for a file or a model of its own, on as many threads as torch has."""
        import openvino

        always = {
            "INFERENCE_NUM_THREADS": torch.get_num_threads(),
            "INFERENCE_PRECISION_HINT": self.precisions[dtype],
        }
        return openvino.Core().compile_model(model, "CPU", always | dict(settings))


@register
class OpenVinoStreams(OpenVino):
    name = "openvino_streams"
    summary = "OpenVINO, two streams, each with half of the threads and half of the images, on the CPU"
    place = 8
    streams = 2

    def unsuited(self, batch: int, dtype: torch.dtype) -> str | None:
        if batch % self.streams:
            return f"{self.streams} streams share the images of a call, which must be a multiple; here are {batch}"
        return super().unsuited(batch, dtype)

    def load(self, path: str, dtype: torch.dtype) -> Callable[[Tensor], Tensor]:
        import openvino

        model = openvino.Core().read_model(path)
        (images,) = model.inputs
        shape = images.get_partial_shape()
        shape[0] = shape[0].get_length() // self.streams
        model.reshape(shape)
        compiled = self.compiled(model, dtype, {"PERFORMANCE_HINT": "THROUGHPUT", "NUM_STREAMS": self.streams})
        requests = [compiled.create_infer_request() for _ in range(self.streams)]

        def infer(x: Tensor) -> Tensor:
            for request, part in zip(requests, x.chunk(self.streams), strict=True):
                request.start_async({"images": part.numpy()}, share_inputs=True)
            for request in requests:
                request.wait()
            return torch.cat([torch.from_numpy(request.get_output_tensor().data) for request in requests])

        return infer
