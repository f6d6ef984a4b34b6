"""Modules of the MobileNet and EfficientNet families: unfused ``state_dict``, fused ops in eval."""

from .blocks import DepthwiseSeparable, MBConv
from .conv_bn_act import ConvBNAct, DepthwiseConvBNAct, PointwiseConvBNAct
from .drop_path import DropPath
from .squeeze_excite import SqueezeExcite
from .training import convert_sync_batchnorm, set_memory

__all__ = [
    "ConvBNAct",
    "DepthwiseConvBNAct",
    "DepthwiseSeparable",
    "DropPath",
    "MBConv",
    "PointwiseConvBNAct",
    "SqueezeExcite",
    "convert_sync_batchnorm",
    "set_memory",
]
