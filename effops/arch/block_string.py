"""The block-string language of the EfficientNet reference code: ``ir_r2_k3_s2_e6_c24_se0.25``.

A kind, then options in any order, joined by underscores. The kinds: ``cn`` convolution, ``ds`` depthwise separable
(``dsa`` with an activation at its end and no residual), ``ir`` inverted residual, ``er`` fused inverted residual,
``uir`` universal inverted residual, ``mqa`` multi-query attention. The options: ``r`` repeats, ``k`` kernel size, ``s``
stride of the first repeat, ``e`` expansion ratio, ``c`` output channels, ``se`` squeeze-excite ratio, ``n`` activation
(``re`` ReLU, ``r6`` ReLU6, ``hs`` h-swish, ``sw`` SiLU, ``ge`` GELU), ``noskip`` no residual, ``skip`` one around a
plain convolution; ``fc`` channels that ``e`` multiplies instead of the block's input, ``gs`` channels of a group,
``cc`` experts; of ``uir`` kernel sizes before the expansion (``a``) and after the projection (``p``), where 0 is none,
as for its ``k``; of ``mqa`` heads (``h``), length of a key (``d``) and stride of the keys (``v``).
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from effops.errors import ArgumentError

ACTIVATION_CODES = {"re": "relu", "r6": "relu6", "hs": "hardswish", "sw": "silu", "ge": "gelu"}

_REQUIRED = {
    "cn": {"r", "k", "s", "c"},
    "ds": {"r", "k", "s", "c"},
    "dsa": {"r", "k", "s", "c"},
    "ir": {"r", "k", "s", "e", "c"},
    "er": {"r", "k", "s", "e", "c"},
    "uir": {"r", "a", "k", "s", "e", "c"},
    "mqa": {"r", "k", "s", "h", "d", "c"},
}
_OPTIONAL = {
    "cn": {"n", "skip"},
    "ds": {"e", "se", "n", "noskip"},
    "dsa": {"se", "n"},
    "ir": {"se", "n", "noskip", "gs", "cc"},
    "er": {"se", "n", "noskip", "fc", "gs"},
    "uir": {"p", "se", "n", "noskip"},
    "mqa": {"v", "noskip"},
}
_INTEGERS = {"r", "k", "s", "c", "a", "p", "h", "d", "v", "fc", "gs", "cc"}
_MAY_BE_ZERO = {"uir": {"a", "k", "p"}}
_WORDS = ("noskip", "skip")
_OPTION = re.compile(r"(?P<key>se|fc|gs|cc|[rksecnaphdv])(?P<value>.+)")


@dataclass(frozen=True, kw_only=True)
class BlockSpec:
    """A parsed block string, before scaling.

    Attributes:
        kind: as the string begins.
        repeats: how many such blocks follow each other; the stride belongs to the first.
        channels: output channels before the width multiplier.
        se_ratio: 0 for no squeeze-excite.
        act: None for the network's own activation.
        skip: a residual is added where the shapes allow it.
        expanded_channels: channels before the width multiplier that ``expansion`` multiplies; None for the block's
            input.
        group_size: None for the kind's own.
        experts: of CondConv, 0 for none.
        start_kernel_size, end_kernel_size: 0 for none.
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
    expanded_channels: int | None = None
    group_size: int | None = None
    experts: int = 0
    start_kernel_size: int = 0
    end_kernel_size: int = 0
    heads: int = 0
    key_channels: int = 0
    key_stride: int = 1


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
    lowest = {key: 0 if key in _MAY_BE_ZERO.get(kind, ()) else 1 for key in _INTEGERS}
    numbers = {
        key: _number(text, key, value, lowest.get(key)) for key, value in values.items() if key not in ("n", *_WORDS)
    }
    if kind == "ds" and numbers.get("e", 1) != 1:
        raise ArgumentError(f"block string {text!r}: kind 'ds' has no expansion, expected e1, got e{values['e']}")
    integers = {key: int(numbers[key]) for key in numbers.keys() & _INTEGERS}
    return BlockSpec(
        kind=kind,
        repeats=integers["r"],
        kernel_size=integers["k"],
        stride=integers["s"],
        channels=integers["c"],
        expansion=numbers.get("e", 1.0),
        se_ratio=numbers.get("se", 0.0),
        act=_activation(text, values["n"]) if "n" in values else None,
        # A plain convolution has a residual on request alone, and MobileNetV1's blocks have none.
        skip="skip" in values if kind == "cn" else kind != "dsa" and "noskip" not in values,
        expanded_channels=integers.get("fc"),
        group_size=integers.get("gs"),
        experts=integers.get("cc", 0),
        start_kernel_size=integers.get("a", 0),
        end_kernel_size=integers.get("p", 0),
        heads=integers.get("h", 0),
        key_channels=integers.get("d", 0),
        key_stride=integers.get("v", 1),
    )


def _split(text: str, option: str) -> tuple[str, str]:
    if option in _WORDS:
        return option, ""
    match = _OPTION.fullmatch(option)
    if match is None:
        raise ArgumentError(
            f"block string {text!r}: cannot read option {option!r}, expected a letter and a value such as k3 or se0.25"
        )
    return match["key"], match["value"]


def _number(text: str, key: str, value: str, lowest: int | None) -> float:
    """The value of an option: an integer of at least ``lowest``, or with None a number above zero."""
    try:
        number = float(value) if lowest is None else int(value)
    except ValueError:
        kind = "a number" if lowest is None else "an integer"
        raise ArgumentError(f"block string {text!r}: option {key!r} expects {kind}, got {value!r}") from None
    fits = number >= 0 if lowest == 0 else 0 < number < float("inf")
    if not fits:
        bounds = "0 (none) or above" if lowest == 0 else "above zero and finite"
        raise ArgumentError(f"block string {text!r}: option {key!r} must be {bounds}, got {value!r}")
    return number


def _activation(text: str, code: str) -> str:
    if code not in ACTIVATION_CODES:
        raise ArgumentError(
            f"block string {text!r}: unknown activation code {code!r}, expected one of {', '.join(ACTIVATION_CODES)}"
        )
    return ACTIVATION_CODES[code]
