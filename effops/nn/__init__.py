"""Modules of the MobileNet and EfficientNet families: unfused ``state_dict``, fused ops in eval."""

from .blocks import DepthwiseSeparable, MBConv
from .conv_bn_act import ConvBNAct, DepthwiseConvBNAct, PointwiseConvBNAct
from .drop_path import DropPath
from .memory import set_memory
from .squeeze_excite import SqueezeExcite
from .sync_batch_norm import SyncBatchNorm2d, convert_sync_batchnorm

__all__ = [
    "ConvBNAct",
    "DepthwiseConvBNAct",
    "DepthwiseSeparable",
    "DropPath",
    "MBConv",
    "PointwiseConvBNAct",
    "SqueezeExcite",
    "SyncBatchNorm2d",
    "convert_sync_batchnorm",
    "set_memory",
]
