"""Modules of the MobileNet and EfficientNet families: unfused ``state_dict``, fused ops in eval."""

from .anti_alias import BlurPool2d
from .attention import MobileAttention, MultiQueryAttention
from .blocks import DepthwiseSeparable, FusedMBConv, MBConv
from .cond_conv import CondConv2d, CondMBConv
from .conv_bn import ConvBN
from .conv_bn_act import ConvBNAct, DepthwiseConvBNAct, PointwiseConvBNAct
from .drop_path import DropPath
from .fusion import MultiScaleFusion
from .layer_scale import LayerScale2d
from .memory import set_memory
from .rms_norm import RmsNorm2d
from .squeeze_excite import SqueezeExcite
from .sync_batch_norm import SyncBatchNorm2d, convert_sync_batchnorm
from .universal import UniversalInvertedResidual

__all__ = [
    "BlurPool2d",
    "CondConv2d",
    "CondMBConv",
    "ConvBN",
    "ConvBNAct",
    "DepthwiseConvBNAct",
    "DepthwiseSeparable",
    "DropPath",
    "FusedMBConv",
    "LayerScale2d",
    "MBConv",
    "MobileAttention",
    "MultiQueryAttention",
    "MultiScaleFusion",
    "PointwiseConvBNAct",
    "RmsNorm2d",
    "SqueezeExcite",
    "SyncBatchNorm2d",
    "UniversalInvertedResidual",
    "convert_sync_batchnorm",
    "set_memory",
]
