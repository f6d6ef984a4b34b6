"""Checkpoint files: writing and reading them, and taking off what training scripts wrap around the weights."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from effops.errors import CheckpointError

# Averaged weights first: they are the ones that the score of a training run belongs to.
_WRAPPERS = ("state_dict_ema", "model_ema", "state_dict", "model")
# Left by DataParallel, torch.compile and Lightning.
_PREFIXES = ("module.", "_orig_mod.", "model.")


def read_state_dict(path: str | os.PathLike[str]) -> dict[str, Tensor]:
    """Read a ``.safetensors`` file, or a torch file with ``weights_only=True``, and unwrap the weights.

    Of a training checkpoint with averaged weights beside the last ones, the averaged ones are taken.

    Raises:
        CheckpointError: no such file, unreadable, or without tensors.
    """
    path = Path(path)
    if not path.is_file():
        reason = "is a directory" if path.is_dir() else "does not exist"
        raise CheckpointError(f"checkpoint {str(path)!r} {reason}; give the path of a .pth or .safetensors file")
    content = _read_safetensors(path) if path.suffix == ".safetensors" else _read_torch(path)
    state_dict = _unwrap(content)
    if state_dict is None:
        raise CheckpointError(
            f"checkpoint {str(path)!r} holds {_describe(content)}, expected a state_dict: names with "
            "tensors. Save one with torch.save(model.state_dict(), path)"
        )
    return _without_prefixes(state_dict)


def write_state_dict(
    state_dict: Mapping[str, Tensor], path: str | os.PathLike[str], *, metadata: Mapping[str, str]
) -> None:
    """Write a ``.safetensors`` file, or a torch file under any other suffix, whole or not at all.

    Args:
        metadata: for safetensors alone.

    Raises:
        CheckpointError: the file cannot be written.
    """
    path = Path(path)
    try:
        descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    except OSError as error:
        raise CheckpointError(f"checkpoint {str(path)!r} cannot be written: {error}; choose another folder") from error
    os.close(descriptor)
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import save_file

            save_file(dict(state_dict), temporary, metadata=dict(metadata))
        else:
            torch.save(dict(state_dict), temporary)
        # mkstemp makes files that nobody else can read.
        umask = os.umask(0)
        os.umask(umask)
        os.chmod(temporary, 0o666 & ~umask)
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def _read_safetensors(path: Path) -> object:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise CheckpointError(
            f"checkpoint {str(path)!r} is not a readable safetensors file ({error}); it may be incomplete, get it again"
        ) from error


def _read_torch(path: Path) -> object:
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch.load raises whatever the bytes of a foreign file happen to provoke
        reason = (str(error).splitlines() or [""])[0]
        raise CheckpointError(
            f"checkpoint {str(path)!r} is not readable by torch.load(weights_only=True) "
            f"({type(error).__name__}: {reason}); it may be incomplete, or hold more than weights. "
            "Get it again, or save the state_dict alone"
        ) from error


def _unwrap(content: object) -> dict[str, Tensor] | None:
    if not isinstance(content, Mapping):
        return None
    for wrapper in _WRAPPERS:
        if isinstance(content.get(wrapper), Mapping):
            return _unwrap(content[wrapper])
    tensors = {key: value for key, value in content.items() if isinstance(key, str) and isinstance(value, Tensor)}
    return tensors if tensors and len(tensors) == len(content) else None


def _without_prefixes(state_dict: dict[str, Tensor]) -> dict[str, Tensor]:
    for prefix in _PREFIXES:
        if all(key.startswith(prefix) for key in state_dict):
            return _without_prefixes({key.removeprefix(prefix): value for key, value in state_dict.items()})
    return state_dict


def _describe(content: object) -> str:
    if not isinstance(content, Mapping):
        return f"a {type(content).__name__}"
    names = ", ".join(repr(key) for key in list(content)[:4])
    return f"a mapping with the keys {names or '(none)'}"
