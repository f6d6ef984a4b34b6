"""The least arithmetic and traffic of every kernel call of a network, by kind of kernel."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

from effops.ops.spec import Cost
from effops.ops.table import OPS

_KIND_OF_ROW = {
    "conv_act": "dense",
    "pointwise_conv_act": "pointwise",
    "depthwise_conv_act": "depthwise",
    "depthwise_conv_act_pool": "depthwise",
    "se_gate": "se_gate",
    "squeeze_excite": "pooling",
    "mbconv": "mbconv",
    "fused_mbconv": "fused_mbconv",
}
# What networks call of torch, by the start of its name.
_KIND_OF_TORCH = {
    "mean": "pooling",
    "sum": "pooling",
    "div": "pooling",
    "adaptive_avg_pool": "pooling",
    "avg_pool": "pooling",
    "linear": "classifier",
    "addmm": "classifier",
    "mm": "classifier",
    "bmm": "attention",
    "_scaled_dot_product": "attention",
    "scaled_dot_product": "attention",
    "softmax": "attention",
    "_softmax": "attention",
    "conv": "torch_conv",
    "_conv": "torch_conv",
    "mkldnn_conv": "torch_conv",
    "thnn_conv": "torch_conv",
    "copy_": "copies",
    "_to_copy": "copies",
    "to": "copies",
    "clone": "copies",
    "contiguous": "copies",
    "cat": "copies",
}


def kind_of(op: str) -> str:
    """The kind of kernel of an op such as "effops::mbconv" or "aten::mean": a row of effops that has none of its own
    is its own kind, what torch does beside is "other"."""
    namespace, _, name = op.partition("::")
    if namespace.startswith("effops"):
        return _KIND_OF_ROW.get(name, name)
    # The longest start counts: "conv" is no "copy_", and "mean" no "mm".
    starts = [start for start in _KIND_OF_TORCH if name == start or (len(start) > 2 and name.startswith(start))]
    return _KIND_OF_TORCH[max(starts, key=len)] if starts else "other"


def _size(values: object) -> int:
    return sum(t.numel() * t.element_size() for t in tree_leaves(values) if isinstance(t, Tensor))


def _cost_of_torch(function: torch._ops.OpOverload, arguments: tuple, outputs: object) -> Cost:
    """Inputs read once, outputs written once; nothing for a view."""
    if any(found.alias_info is not None and not found.alias_info.is_write for found in function._schema.returns):
        return Cost(0, 0)
    operations = flop_registry.get(function.overloadpacket)
    macs = operations(*arguments, out_val=outputs) // 2 if operations else 0
    return Cost(macs, _size(arguments) + _size(outputs))


class _Counter(TorchDispatchMode):
    """Adds up the cost of every op that reaches a kernel."""

    def __init__(self) -> None:
        super().__init__()
        self.costs: dict[str, list[Cost]] = {}

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        outputs = function(*args, **(kwargs or {}))
        namespace, _, name = function._schema.name.partition("::")
        if namespace.startswith("effops") and name in OPS:
            cost = OPS[name].cost(*args)
        else:
            cost = _cost_of_torch(function, (*args, *(kwargs or {}).values()), outputs)
        self.costs.setdefault(kind_of(f"{namespace}::{name}"), []).append(cost)
        return outputs


def _added(costs: dict[str, list[Cost]]) -> Iterator[tuple[str, Cost]]:
    for kind, found in costs.items():
        yield kind, Cost(sum(cost.macs for cost in found), sum(cost.bytes for cost in found))


def work_of(call: Callable[[], object]) -> dict[str, Cost]:
    """The least work of one call of a network, by kind of kernel.

    Calls that effops prepared go through the dispatcher as well, so they are counted as they run.
    """
    with torch.inference_mode(False), torch.no_grad(), _Counter() as counter:
        call()
    return dict(_added(counter.costs))
