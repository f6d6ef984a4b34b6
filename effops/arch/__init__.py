"""Networks as data: frozen dataclasses, block strings and counts. Needs no torch."""

from .arch import Arch, Head, Preprocessing, Stem
from .block_string import BlockSpec, parse_block
from .blocks import (
    Block,
    ConvBNAct,
    DepthwiseSeparable,
    FusedMBConv,
    InvertedResidual,
    MobileAttention,
    Stage,
    UniversalInvertedResidual,
)
from .catalog import ARCHS, find_arch, find_port, list_archs
from .conv import Conv, Learned, SqueezeExcite
from .counts import Counts, Part, parts, total
from .features import Feature, features, take_indices
from .fusion import Fusion
from .norm import Norm

__all__ = [
    "ARCHS",
    "Arch",
    "Block",
    "BlockSpec",
    "Conv",
    "ConvBNAct",
    "Counts",
    "DepthwiseSeparable",
    "Feature",
    "FusedMBConv",
    "Fusion",
    "Head",
    "InvertedResidual",
    "Learned",
    "MobileAttention",
    "Norm",
    "Part",
    "Preprocessing",
    "SqueezeExcite",
    "Stage",
    "Stem",
    "UniversalInvertedResidual",
    "features",
    "find_arch",
    "find_port",
    "list_archs",
    "parse_block",
    "parts",
    "take_indices",
    "total",
]
