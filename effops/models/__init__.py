"""Models by name: building, counting, loading and saving."""

from .build import build, build_features
from .create import create_model, list_models
from .feature_network import FeatureInfo, FeatureNetwork
from .info import ModelInfo, StageInfo, model_info
from .network import Network
from .parameter_groups import parameter_groups
from .weights import LoadReport, export_state_dict, load, save

__all__ = [
    "FeatureInfo",
    "FeatureNetwork",
    "LoadReport",
    "ModelInfo",
    "Network",
    "StageInfo",
    "build",
    "build_features",
    "create_model",
    "export_state_dict",
    "list_models",
    "load",
    "model_info",
    "parameter_groups",
    "save",
]
