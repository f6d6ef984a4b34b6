"""Builds effops. The package's facts are in pyproject.toml; how the extension is built is in buildtools/."""

import sys
from pathlib import Path

from setuptools import Extension, setup

sys.path.insert(0, str(Path(__file__).resolve().parent / "buildtools"))

from config import skip_extension
from extension import BuildKernels

setup(
    ext_modules=[] if skip_extension() else [Extension("effops._C", sources=[])],
    cmdclass={"build_ext": BuildKernels},
)
