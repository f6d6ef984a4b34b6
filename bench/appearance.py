"""How providers and kinds of kernels are called, coloured and marked, in figures and in the report alike."""

from __future__ import annotations

from collections.abc import Sequence

from .record import Row
from .selection import MAPPED, MODULES, SUBJECT, is_subject

# Wong, "Points of view: Color blindness", Nature Methods 8 (2011): distinguishable with every kind of colour vision.
# Its yellow is darker here, for lines on white.
SUBJECT_COLOURS = {SUBJECT: "#D55E00", f"{SUBJECT}_low": "#EE9B66", MODULES: "#EE9B66", MAPPED: "#A34700"}
PEER_COLOURS = ("#0072B2", "#56B4E9", "#009E73", "#E69F00", "#CC79A7", "#A89B00", "#555555", "#A6A6A6")
# No figure tells by colour alone.
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")

# On a phone a chart has room for 21 letters.
_TITLES = {
    "eager": "eager",
    "channels_last": "eager, channels_last",
    "compile": "torch.compile",
    "max_autotune": "compile, max-autotune",
    "freezing": "torch.compile, frozen",
    "onnxruntime": "ONNX Runtime",
    "openvino": "OpenVINO",
    "openvino_streams": "OpenVINO, 2 streams",
    "reference": "plain torch",
    "effops_low": "effops, low memory",
    MODULES: "effops, by module",
    MAPPED: "effops, mapped file",
}

# What a reader compares with: the better of each family.
FAMILIES = {
    "eager": ("eager PyTorch", ("eager", "channels_last")),
    "compile": ("torch.compile", ("compile", "max_autotune", "freezing")),
    "engines": ("inference engines", ("onnxruntime", "openvino", "openvino_streams")),
}

_KINDS = {
    "dense": "dense convolution, stem",
    "pointwise": "pointwise convolution",
    "depthwise": "depthwise convolution",
    "mbconv": "whole block (MBConv)",
    "fused_mbconv": "whole block (Fused-MBConv)",
    "se_gate": "squeeze-excite gate",
    "pooling": "pooling and scaling",
    "attention": "attention",
    "classifier": "classifier",
    "torch_conv": "convolution by torch",
    "copies": "copies",
    "other": "other ops",
    "outside": "Python and the rest",
}


def title(provider: str) -> str:
    """The name of a provider for a reader."""
    return _TITLES.get(provider, provider)


def kind_title(kind: str) -> str:
    """The name of a kind of kernel for a reader; ops that have no kind of their own go by their name."""
    return _KINDS.get(kind, kind)


def kind_place(kind: str) -> int:
    """Where a kind stands in figures and tables: work first, what is left over last."""
    names = list(_KINDS)
    return names.index(kind) if kind in names else names.index("other")


def colours(names: Sequence[str]) -> dict[str, str]:
    """A colour for every provider: effops has its own."""
    peers = [name for name in names if not is_subject(name)]
    found = {name: PEER_COLOURS[place % len(PEER_COLOURS)] for place, name in enumerate(peers)}
    return found | {name: SUBJECT_COLOURS.get(name, SUBJECT_COLOURS[SUBJECT]) for name in names if is_subject(name)}


def problem_title(row: Row) -> str:
    """A network with its resolution, or what the case is called."""
    return row.case if row.resolution is None else f"{row.case}@{row.resolution}"
