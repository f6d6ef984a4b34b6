"""Models by name: building, counting, loading and saving."""

from .build import build
from .create import create_model, list_models
from .info import ModelInfo, StageInfo, model_info
from .network import Network
from .weights import export_state_dict, load_checkpoint

__all__ = [
    "ModelInfo",
    "Network",
    "StageInfo",
    "build",
    "create_model",
    "export_state_dict",
    "list_models",
    "load_checkpoint",
    "model_info",
]
