"""What a call of a public op would run, without running it."""

from __future__ import annotations

from collections.abc import Callable

from ..errors import ArgumentError
from . import backends, blocks, functional, training
from .backends import Explanation
from .spec import Op

_FUNCTIONS = {
    function.__name__: function
    for function in (
        blocks.mbconv,
        blocks.fused_mbconv,
        functional.conv_act,
        functional.depthwise_conv_act,
        functional.pointwise_conv_act,
        functional.se_gate,
        functional.squeeze_excite,
        training.batch_norm_act,
        training.conv_bn_chain,
        training.depthwise_conv_bn_act,
    )
}


def _rows(op: str | Callable, args: tuple, kwargs: dict) -> tuple[tuple[Op, ...], tuple]:
    name = op if isinstance(op, str) else getattr(op, "__name__", str(op))
    if name not in _FUNCTIONS:
        raise ArgumentError(f"op must be one of {', '.join(_FUNCTIONS)}; got {name!r}")
    return backends.intercept(_FUNCTIONS[name], *args, **kwargs)


def prepared(op: str | Callable, *args: object, **kwargs: object) -> tuple[Op, tuple]:
    """The table row and the checked schema arguments of a call that one row serves, without running it."""
    rows, schema_args = _rows(op, args, kwargs)
    if len(rows) > 1:
        raise ArgumentError(f"{op} runs several rows of the op table: {', '.join(row.name for row in rows)}")
    return rows[0], schema_args


def explain(op: str | Callable, *args: object, **kwargs: object) -> Explanation:
    """What would run this call, and for every backend why or why not. Nothing is run.

    Args:
        op: a function of ``effops.ops`` or its name; the rest are that function's arguments.
    """
    rows, schema_args = _rows(op, args, kwargs)
    if len(rows) == 1:
        rows = backends.running_rows(rows[0], schema_args)
    return backends.explain(op if isinstance(op, str) else op.__name__, rows, schema_args)
