"""Models as files that run where effops is not installed: torch.export programs, ONNX, AOTInductor packages.

Every op becomes plain torch operators, every batch norm is folded into its convolution, and every file is run again
and compared with the model before it gets its name.
"""

from .onnx import to_onnx
from .package import to_aoti
from .program import to_exported_program
from .verify import Exported

__all__ = ["Exported", "to_aoti", "to_exported_program", "to_onnx"]
