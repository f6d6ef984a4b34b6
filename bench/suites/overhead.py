"""What a call costs beside its kernels: ops, blocks and networks on maps so small that there is little else."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import nn

from bench import allocator, device
from bench.case import Case, Function
from bench.environment import Environment
from bench.networks import find_origin
from bench.plain import PlainBlock
from bench.problems import DenseConv, DepthwiseConv, PointwiseConv, Problem, SqueezeExciteGate
from bench.record import CaseKey, Row
from bench.runner import EvalTask, Task
from bench.suites.models import ModelTask
from bench.suites.ops import fused_call
from bench.timing import Schedule
from effops.arch import (
    Block,
    ConvBNAct,
    DepthwiseSeparable,
    FusedMBConv,
    InvertedResidual,
    SqueezeExcite,
    UniversalInvertedResidual,
    find_arch,
)
from effops.models.build import build_block

SCHEDULE = Schedule(rounds=15, sample_seconds=0.005, warmup_seconds=0.1)

# Sides of the maps of blocks and ops, their channels, and the side of the networks' images.
_SIDE = 1
_CHANNELS = 8
_IMAGE = 32
_NETWORKS = ("mobilenetv2_035", "mobilenetv3_small_050", "efficientnet_b0")
# Blocks take padding and eps from a network.
_ARCH = "mobilenetv2_100"

PARTS = ("ops", "blocks", "networks")


def _problems() -> Iterator[Problem]:
    window = {"size": _SIDE, "kernel_size": 3, "stride": 1, "padding": 1, "act": "silu"}
    pointwise = {"size": _SIDE, "in_channels": _CHANNELS, "out_channels": _CHANNELS}
    yield DenseConv(**window, in_channels=3, out_channels=_CHANNELS)
    yield DepthwiseConv(**window, channels=_CHANNELS, pool=False)
    yield DepthwiseConv(**window, channels=_CHANNELS, pool=True)
    yield PointwiseConv(**pointwise, act="silu")
    yield PointwiseConv(**pointwise, act="identity", gated=True, residual=True)
    yield SqueezeExciteGate(channels=_CHANNELS, reduced=4, act="silu", gate="sigmoid")


def _blocks() -> dict[str, Block]:
    shape = {"in_channels": _CHANNELS, "out_channels": _CHANNELS, "stride": 1, "act": "silu", "residual": True}
    wide = {**shape, "kernel_size": 3, "mid_channels": 4 * _CHANNELS}
    gate = SqueezeExcite(4, "silu", "sigmoid")
    return {
        "ConvBNAct": ConvBNAct(**shape, kernel_size=3),
        "DepthwiseSeparable": DepthwiseSeparable(**shape, kernel_size=3),
        "InvertedResidual": InvertedResidual(**wide),
        "InvertedResidual with SE": InvertedResidual(**wide, se=gate),
        "FusedMBConv": FusedMBConv(**wide),
        "UniversalInvertedResidual": UniversalInvertedResidual(**wide, start_kernel_size=3),
    }


@torch.no_grad()
def _plain_block(block: Block) -> PlainBlock:
    made = PlainBlock(block, find_arch(_ARCH)).eval().requires_grad_(False)
    for norm in (module for module in made.modules() if isinstance(module, nn.BatchNorm2d)):
        for values in (norm.weight, norm.running_var):
            values.uniform_(0.7, 1.3)
        for values in (norm.bias, norm.running_mean):
            values.normal_(std=0.1)
    return made


def _fused_block(block: Block, plain: PlainBlock) -> nn.Module:
    made = build_block(block, find_arch(_ARCH)).requires_grad_(False)
    made.load_state_dict({name: value.float() for name, value in plain.state_dict().items()})
    return made.eval()


@dataclass
class SmallTask(EvalTask):
    """An op or a block on one pixel.

    Attributes:
        op: the function of ``effops.ops``, empty for a block.
        make: the plain module with its inputs in a dtype, and effops' answer.
    """

    name: str
    op: str
    make: Callable[[torch.dtype], Case]
    dtype: torch.dtype
    environment: Environment

    @property
    def label(self) -> str:
        return self.name

    @property
    def key(self) -> CaseKey:
        return CaseKey("overhead", self.name, 1, None, str(self.dtype).removeprefix("torch."), "warm")

    def build(self) -> Case:
        torch.manual_seed(0)
        return self.make(self.dtype)

    def template(self) -> Row:
        return Row(
            **self.key._asdict(),
            op=self.op,
            models="",
            network="unfused torch ops" if self.op else "plain modules",
            allocator=allocator.SYSTEM,
            provider="",
            status="",
            environment=self.environment,
        )


def _op_case(problem: Problem) -> Callable[[torch.dtype], Case]:
    def make(dtype: torch.dtype) -> Case:
        module = problem.module().to(device.current(), dtype).eval().requires_grad_(False)
        inputs = [device.moved(problem.inputs(1, dtype))]
        return Case(module, inputs, lambda: fused_call(problem, module), dtype)

    return make


def _block_case(block: Block) -> Callable[[torch.dtype], Case]:
    def make(dtype: torch.dtype) -> Case:
        plain = _plain_block(block)
        images = torch.randn(1, block.in_channels, _SIDE, _SIDE, dtype=dtype)

        def fused() -> Function:
            return _fused_block(block, plain).to(device.current(), dtype, memory_format=torch.channels_last)

        return Case(plain.to(device.current(), dtype), [device.moved((images,))], fused, dtype)

    return make


def tasks(
    parts: Sequence[str], networks: Sequence[str], dtype: torch.dtype, environment: Environment, *, quick: bool
) -> list[Task]:
    """The cases of some of :data:`PARTS`; a quick run takes the first network, and named ones are taken in any case.

    Raises:
        BenchError: an unknown network.
    """
    for name in networks:
        find_origin(name)
    usual = _NETWORKS[:1] if quick else _NETWORKS
    found: dict[str, list[Task]] = {
        "ops": [SmallTask(problem.label, problem.op, _op_case(problem), dtype, environment) for problem in _problems()],
        "blocks": [SmallTask(name, "", _block_case(block), dtype, environment) for name, block in _blocks().items()],
        "networks": [ModelTask(name, 1, _IMAGE, dtype, environment, suite="overhead") for name in networks or usual],
    }
    return [task for part in parts for task in found[part]]
