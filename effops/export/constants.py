"""Computes once, before the export, what a graph would compute from its weights alone at every call."""

from __future__ import annotations

import torch
from torch import fx

_ASSERTION = torch.ops.aten._assert_tensor_metadata.default


def fold_constants(graph_module: fx.GraphModule) -> fx.GraphModule:
    """Replace every value that depends on weights alone by a buffer, and drop the weights that nothing reads any more.

    Batch norm folding, casts and layouts of weights are such values. Works in place and returns its argument.
    """
    graph = graph_module.graph
    for node in list(graph.nodes):
        # They say what the dtypes of the trace were, which the exporters know.
        if node.op == "call_function" and node.target is _ASSERTION:
            graph.erase_node(node)
    constant: dict[fx.Node, torch.Tensor] = {}
    for node in graph.nodes:
        if node.op == "get_attr":
            constant[node] = _attribute(graph_module, node.target)
        elif _folds(node, constant):
            args, kwargs = fx.node.map_arg((node.args, node.kwargs), constant.__getitem__)
            with torch.no_grad():
                constant[node] = node.target(*args, **kwargs)
    for number, (node, value) in enumerate(list(constant.items())):
        if node.op == "get_attr" or all(user in constant for user in node.users):
            continue
        name = f"folded_{number}"
        graph_module.register_buffer(name, value.detach().contiguous())
        with graph.inserting_before(node):
            node.replace_all_uses_with(graph.get_attr(name))
    graph.eliminate_dead_code()
    graph_module.delete_all_unused_submodules()
    _delete_unused(graph_module)
    graph_module.recompile()
    return graph_module


def _folds(node: fx.Node, constant: dict[fx.Node, torch.Tensor]) -> bool:
    """Whether a node is a pure function of constants with one tensor as its result."""
    if node.op != "call_function" or not isinstance(node.target, torch._ops.OpOverload):
        return False
    inputs = node.all_input_nodes
    pure = not node.target._schema.is_mutable and isinstance(node.meta.get("val"), torch.Tensor)
    return pure and bool(inputs) and all(one in constant for one in inputs)


def _attribute(module: torch.nn.Module, path: str) -> torch.Tensor:
    owner, _, name = path.rpartition(".")
    return getattr(module.get_submodule(owner), name)


def _delete_unused(graph_module: fx.GraphModule) -> None:
    used = {node.target for node in graph_module.graph.nodes if node.op == "get_attr"}
    names = [name for name, _ in [*graph_module.named_parameters(), *graph_module.named_buffers()]]
    for path in names:
        if path not in used:
            owner, _, name = path.rpartition(".")
            delattr(graph_module.get_submodule(owner), name)
