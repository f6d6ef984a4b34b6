"""The block-string language of the EfficientNet reference code: ``ir_r2_k3_s2_e6_c24_se0.25``.

A kind, then options in any order, joined by underscores: ``r`` repeats, ``k`` kernel size, ``s`` stride of
the first
repeat, ``e`` expansion ratio, ``c`` output channels, ``se`` squeeze-excite ratio, ``n`` activation (``re``
ReLU, ``r6`` ReLU6, ``hs`` h-swish, ``sw`` SiLU), ``noskip`` no residual.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from effops.errors import ArgumentError

ACTIVATION_CODES = {"re": "relu", "r6": "relu6", "hs": "hardswish", "sw": "silu", "ge": "gelu"}

_REQUIRED = {
    "cn": {"r", "k", "s", "c"},
    "ds": {"r", "k", "s", "c"},
    "ir": {"r", "k", "s", "e", "c"},
}
_OPTIONAL = {
    "cn": {"n"},
    "ds": {"e", "se", "n", "noskip"},
    "ir": {"se", "n", "noskip"},
}
_INTEGERS = {"r", "k", "s", "c"}
_OPTION = re.compile(r"(?P<key>se|[rksecn])(?P<value>.+)")


@dataclass(frozen=True, kw_only=True)
class BlockSpec:
    """A parsed block string, before scaling.

    Attributes:
        kind: "cn", "ds" or "ir".
        repeats: how many such blocks follow each other; the stride belongs to the first.
        channels: output channels before the width multiplier.
        se_ratio: 0 for no squeeze-excite.
        act: None for the network's own activation.
        skip: a residual is added where the shapes allow it.
    """

    kind: str
    repeats: int
    kernel_size: int
    stride: int
    channels: int
    expansion: float = 1.0
    se_ratio: float = 0.0
    act: str | None = None
    skip: bool = True


def parse_block(text: str) -> BlockSpec:
    """Parse one block string.

    Raises:
        ArgumentError: an unknown kind, an option that is unknown, repeated, missing or malformed; the message
            names the block string and the option.
    """
    kind, *options = text.split("_")
    if kind not in _REQUIRED:
        raise ArgumentError(f"block string {text!r}: unknown kind {kind!r}, expected one of {', '.join(_REQUIRED)}")
    allowed = _REQUIRED[kind] | _OPTIONAL[kind]
    values: dict[str, str] = {}
    for option in options:
        key, value = _split(text, option)
        if key not in allowed:
            raise ArgumentError(
                f"block string {text!r}: option {option!r} does not belong to kind {kind!r}, "
                f"which takes {', '.join(sorted(allowed))}"
            )
        if key in values:
            raise ArgumentError(f"block string {text!r}: option {key!r} is given twice, give it once")
        values[key] = value
    missing = _REQUIRED[kind] - values.keys()
    if missing:
        raise ArgumentError(
            f"block string {text!r}: kind {kind!r} needs {', '.join(sorted(missing))}, e.g. r1 k3 s1 e6 c24"
        )
    numbers = {key: _number(text, key, value) for key, value in values.items() if key not in ("n", "noskip")}
    if kind == "ds" and numbers.get("e", 1) != 1:
        raise ArgumentError(f"block string {text!r}: kind 'ds' has no expansion, expected e1, got e{values['e']}")
    return BlockSpec(
        kind=kind,
        repeats=int(numbers["r"]),
        kernel_size=int(numbers["k"]),
        stride=int(numbers["s"]),
        channels=int(numbers["c"]),
        expansion=numbers.get("e", 1.0),
        se_ratio=numbers.get("se", 0.0),
        act=_activation(text, values["n"]) if "n" in values else None,
        # A plain convolution has no residual in this language.
        skip=kind != "cn" and "noskip" not in values,
    )


def _split(text: str, option: str) -> tuple[str, str]:
    if option == "noskip":
        return option, ""
    match = _OPTION.fullmatch(option)
    if match is None:
        raise ArgumentError(
            f"block string {text!r}: cannot read option {option!r}, expected a letter and a value such as k3 or se0.25"
        )
    return match["key"], match["value"]


def _number(text: str, key: str, value: str) -> float:
    try:
        number = int(value) if key in _INTEGERS else float(value)
    except ValueError:
        kind = "an integer" if key in _INTEGERS else "a number"
        raise ArgumentError(f"block string {text!r}: option {key!r} expects {kind}, got {value!r}") from None
    if not 0 < number < float("inf"):
        raise ArgumentError(f"block string {text!r}: option {key!r} must be above zero and finite, got {value!r}")
    return number


def _activation(text: str, code: str) -> str:
    if code not in ACTIVATION_CODES:
        raise ArgumentError(
            f"block string {text!r}: unknown activation code {code!r}, expected one of {', '.join(ACTIVATION_CODES)}"
        )
    return ACTIVATION_CODES[code]
