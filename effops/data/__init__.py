"""Images from files, as a model expects them. Needs Pillow, so ``import effops`` does not load it."""

from effops.data.class_names import imagenet_class_names, read_class_names
from effops.data.images import ImageError, load_image
from effops.data.preprocess import Preprocess

__all__ = ["ImageError", "Preprocess", "imagenet_class_names", "load_image", "read_class_names"]
