"""The build backend: setuptools, asking for torch in an isolated build only when the environment has none."""

from __future__ import annotations

import os

from find_torch import REQUIREMENT, find_torch
from setuptools import build_meta
from setuptools.build_meta import *  # noqa: F403 - the hooks of PEP 517 and 660


def _with_torch(requirements: list[str]) -> list[str]:
    wanted = os.environ.get("EFFOPS_SKIP_EXT") != "1" and find_torch() is None
    return [*requirements, REQUIREMENT] if wanted else requirements


def get_requires_for_build_wheel(config_settings=None):
    return _with_torch(build_meta.get_requires_for_build_wheel(config_settings))


def get_requires_for_build_editable(config_settings=None):
    return _with_torch(build_meta.get_requires_for_build_editable(config_settings))
