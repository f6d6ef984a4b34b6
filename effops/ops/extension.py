"""Loads the C++ extension, once, and says in one readable message why it is not there when it is not."""

from __future__ import annotations

import importlib
import sysconfig
import warnings
from pathlib import Path
from types import ModuleType

_REBUILD = "Rebuild it: pip install --no-build-isolation --force-reinstall --no-deps . in a checkout of effops"


_CUDA = "Build them where nvcc is: EFFOPS_CUDA=1 pip install --no-build-isolation --no-deps . in a checkout of effops"


def _explain(error: ImportError) -> str:
    package = Path(__file__).resolve().parent.parent
    built = sorted(path.name for path in package.glob("_C.*") if path.suffix in (".so", ".pyd", ".dylib"))
    wanted = f"_C{sysconfig.get_config_var('EXT_SUFFIX')}"
    if not built:
        return (
            "effops was installed without its C++ extension (EFFOPS_SKIP_EXT=1, or it was never built); "
            f"ops run on the reference. {_REBUILD}"
        )
    if wanted not in built:
        found = ", ".join(built)
        return f"the C++ extension was built for another Python: found {found}, this one needs {wanted}. {_REBUILD}"
    return f"the C++ extension {wanted} does not load: {error}. {_REBUILD}"


def _load() -> tuple[ModuleType | None, str | None]:
    try:
        return importlib.import_module("effops._C"), None
    except ImportError as error:
        message = _explain(error)
        if "does not load" in message or "another Python" in message:
            warnings.warn(f"effops: {message}", RuntimeWarning, stacklevel=2)
        return None, message


module, load_error = _load()


def cuda_missing() -> str | None:
    """Why no CUDA kernel can run in this process, or None."""
    if load_error is not None:
        return load_error
    return None if module.build_info().get("cuda") else f"this build of effops has no CUDA kernels. {_CUDA}"


def release_memory() -> int:
    """Return to the system the buffers that effops keeps for its next results; how many bytes that were.

    Results of 1 MiB and more come from buffers that are used again when their tensors are gone, as torch does it on
    GPUs. At most half as much again as was in use at one time is kept. What the C library's allocator holds free goes
    back too (glibc keeps blocks of up to 32 MiB); it is not counted.
    """
    if module is None:
        return 0
    released = module.release_buffers()
    module.release_heap()
    return released
