"""Networks as data: frozen dataclasses, block strings and counts. Needs no torch."""

from .arch import Arch, Head, Preprocessing, Stem
from .block_string import BlockSpec, parse_block
from .blocks import Block, Conv, ConvBNAct, DepthwiseSeparable, InvertedResidual, SqueezeExcite, Stage
from .catalog import ARCHS, find_arch, find_port, list_archs
from .counts import Counts, Part, parts, total

__all__ = [
    "ARCHS",
    "Arch",
    "Block",
    "BlockSpec",
    "Conv",
    "ConvBNAct",
    "Counts",
    "DepthwiseSeparable",
    "Head",
    "InvertedResidual",
    "Part",
    "Preprocessing",
    "SqueezeExcite",
    "Stage",
    "Stem",
    "find_arch",
    "find_port",
    "list_archs",
    "parse_block",
    "parts",
    "total",
]
