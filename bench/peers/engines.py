"""Inference engines of others: ONNX Runtime and OpenVINO, on CPUs, on the ONNX file of the plain network."""

from __future__ import annotations

import copy
import importlib.util
from abc import abstractmethod
from collections.abc import Callable
from typing import ClassVar

import torch
from torch import Tensor

from bench import device
from bench.case import Case, Provider
from bench.errors import BenchError
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

    def load(self, path: str, dtype: torch.dtype) -> Callable[[Tensor], Tensor]:
        import onnxruntime

        if dtype != torch.float32:
            raise BenchError(f"ONNX Runtime convolves in float32 alone on CPUs; got {dtype}")
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

    def load(self, path: str, dtype: torch.dtype) -> Callable[[Tensor], Tensor]:
        import openvino

        core = openvino.Core()
        can = core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
        if dtype not in self.precisions or (dtype == torch.bfloat16 and "BF16" not in can):
            raise BenchError(f"OpenVINO has no kernels for {dtype} on this processor; it has {', '.join(can)}")
        settings = {
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_NUM_THREADS": torch.get_num_threads(),
            "INFERENCE_PRECISION_HINT": self.precisions[dtype],
        }
        request = core.compile_model(path, "CPU", settings).create_infer_request()
        # Its output buffer is written again by the next call; nobody keeps the one before.
        return lambda x: torch.from_numpy(request.infer({"images": x.numpy()}, share_inputs=True)[0])
