"""``effops.compile_cpu``: a model's forward in eval as one call of kernels on packed weights."""

from __future__ import annotations

import copyreg
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cache, partial
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.modules.module import _has_any_global_hook
from torch.utils._pytree import tree_leaves

from effops.errors import ArgumentError, BackendError
from effops.fuse import fuse
from effops.fuse.program import has_hooks
from effops.fuse.run import setting_names
from effops.fuse.swap import FusedModule
from effops.nn.folding import FoldingModule, folding_anew
from effops.nn.prepared import PreparedCalls, State, may_prepare
from effops.ops import backends, extension

from .report import CompileReport, report_of
from .tape import Tape, record
from .trace import NotOneCall
from .weights import Weights

_Model = TypeVar("_Model", bound=nn.Module)
# The backends asked for that a tape may stand for.
_BACKENDS = None, "cpu"
# Of a tape's outputs beside the modules' own: the kernels are the same, the classifier's product is not torch's.
_TOLERANCE = {torch.float32: 1e-4, torch.bfloat16: 3e-2}


def compile_cpu(model: _Model, *examples: Tensor) -> _Model:
    """Let a model's forward in eval run as one call: for serving on CPUs. In place.

    The first call with images of a size records which kernels run on what. Their weights are packed once (twice the
    memory of the weights alone), every tensor between them gets its place in one buffer, and later calls run the
    record. What no kernel of effops serves stays a call of torch between them. Modules, keys, ``state_dict``, hooks of
    the model itself and training stay as they are. A record is dropped when a weight, a module, a setting or a hook
    inside of the model has changed; calls that record gradients, run under autocast or have other arguments than one
    tensor run the modules.

    A model of another library is fused first (:func:`effops.fuse`).

    Args:
        model: its forward must be the same computation whatever the values of its input.
        examples: inputs to record at once, so that the first calls with images of their sizes are fast too, and
            ``model.compile_report`` is there.

    Returns:
        model.

    Raises:
        ArgumentError: model is no module, an example is none of its inputs, or its forward cannot become one call.
        BackendError: this installation has no CPU kernels.
    """
    if not isinstance(model, nn.Module):
        raise ArgumentError(f"model must be a torch.nn.Module; got {type(model).__name__}")
    if extension.module is None:
        raise BackendError(f"compile_cpu needs effops' CPU kernels: {extension.load_error}")
    for i, example in enumerate(examples):
        _check_example(model, example, i)
    if not any(isinstance(module, (FoldingModule, FusedModule)) for module in model.modules()):
        fuse(model)
    was = isinstance(model, CompiledModule)
    if not was:
        model.__class__ = _compiled_class(type(model))
        model.__dict__["_tapes"] = _Tapes()
    try:
        for example in examples:
            model.compile_report = model._tapes.add(model, _dense(example))
    except NotOneCall as error:
        if not was:
            uncompile(model)
        raise ArgumentError(f"{type(model).__name__} cannot run as one call: {error}") from error
    return model


def uncompile(model: _Model) -> _Model:
    """Undo :func:`compile_cpu`. Returns the model."""
    if not isinstance(model, nn.Module):
        raise ArgumentError(f"model must be a torch.nn.Module; got {type(model).__name__}")
    if isinstance(model, CompiledModule):
        model.__class__ = model._uncompiled
        model.__dict__.pop("_tapes", None)
        model.__dict__.pop("compile_report", None)
    return model


def _check_example(model: nn.Module, example: object, i: int) -> None:
    if not isinstance(example, Tensor) or example.numel() == 0 or not example.is_floating_point():
        found = f"shape {tuple(example.shape)}" if isinstance(example, Tensor) else type(example).__name__
        raise ArgumentError(f"examples[{i}] must be a batch of images, as the model takes them; got {found}")
    if example.device.type != "cpu":
        raise ArgumentError(f"examples[{i}] must be on the CPU; it is on {example.device}")
    if model.training:
        raise ArgumentError("examples are for a model in eval; call model.eval() first")


@dataclass
class _Tapes:
    """The tapes of one model; copies and pickles start without any."""

    calls: PreparedCalls = field(default_factory=PreparedCalls)
    state: State | None = None
    weights: Weights | None = None
    refused: str = ""

    def __deepcopy__(self, memo: dict) -> _Tapes:
        return _Tapes()

    def __reduce__(self) -> tuple:
        return _Tapes, ()

    def clear(self) -> None:
        """Forget all; what the weights were packed for may have changed."""
        self.calls.clear()
        self.state = None
        self.weights = None
        self.refused = ""

    def add(self, model: nn.Module, x: Tensor) -> CompileReport:
        """Record the model on an input, and check the record on another one.

        Raises:
            NotOneCall: it cannot be recorded.
        """
        forward = partial(model._uncompiled.forward, model)
        if self.state is None or not self.state.holds():
            # Nothing was recorded, or what it stood on has changed: weights that were packed are not shared with it.
            self.clear()
            self.state = _state(model)
            self.weights = Weights([*model.parameters(), *model.buffers()])
        # The packed weights stand for the folded ones, which would be there twice.
        _forget_folded(model)
        # What loading the model has left free would lie beside what is packed: the allocator keeps it in pieces.
        extension.release_memory()
        try:
            tape = self._recorded(model, forward, x)
        finally:
            extension.release_memory()
            self.weights.settle()
        self.calls.keep(_layout(x), tape)
        return report_of(model, tape, self.weights)

    def _recorded(self, model: nn.Module, forward: Callable[[Tensor], Any], x: Tensor) -> Tape:
        # In inference mode the dispatcher would see other, larger operators, and tensors without versions.
        with torch.inference_mode(False), torch.no_grad(), folding_anew():
            x = torch.empty_strided(x.shape, x.stride(), dtype=x.dtype).copy_(x)
            tape = record(forward, x, self.weights, self.state)
            if not _is_known(model):
                _verify(tape, forward, x)
        return tape


def _forget_folded(model: nn.Module) -> None:
    for module in model.modules():
        if isinstance(module, FoldingModule):
            module._folds.clear()
        elif isinstance(module, FusedModule) and module._effops is not None:
            module._effops.folds.clear()


def _layout(x: Tensor) -> tuple:
    """Beside the shape, what a tape is for: images that lie otherwise get tapes of their own."""
    return x.is_contiguous(), x.dtype


def _dense(x: Tensor) -> Tensor:
    """Images that lie in one piece: a tape for every distance between rows would be one too many."""
    if x.is_contiguous() or (x.dim() == 4 and x.is_contiguous(memory_format=torch.channels_last)):
        return x
    return x.contiguous()


def _hooked(model: nn.Module) -> str | None:
    """The name of a module inside that has hooks: a record would pass them by."""
    return next((name for name, module in model.named_modules() if module is not model and has_hooks(module)), None)


def _state(model: nn.Module) -> State:
    hooked = _hooked(model)
    if hooked is not None:
        raise NotOneCall(f"{hooked} has hooks; remove them first, or leave the model as it is")
    try:
        return State(model, list(model.modules())[1:], list(_read_in_eval(model)), setting_names)
    except RuntimeError as error:
        raise NotOneCall(f"a change of its weights could not be noticed ({error})") from error


def _read_in_eval(model: nn.Module) -> Iterator[Tensor]:
    """Parameters and buffers but for the counters of batch norm."""
    counted = {
        id(module.num_batches_tracked)
        for module in model.modules()
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.num_batches_tracked is not None
    }
    yield from model.parameters()
    yield from (buffer for buffer in model.buffers() if id(buffer) not in counted)


def _is_known(model: nn.Module) -> bool:
    """Whether all of its modules are effops' and torch's own, whose forwards torch's dispatcher sees whole."""
    return all(type(module).__module__.partition(".")[0] in ("effops", "torch") for module in model.modules())


def _verify(tape: Tape, forward: Callable[[Tensor], Any], x: Tensor) -> None:
    """Values that a forward takes from its input by other ways than torch's dispatcher would show here."""
    other = torch.empty_strided(x.shape, x.stride(), dtype=x.dtype).copy_(torch.flip(x, (-1,)) * 0.75 + 0.125)
    got, want = tree_leaves(tape.run(other)), tree_leaves(forward(other))
    for a, b in zip(got, want, strict=True):
        if not isinstance(b, Tensor):
            same = a == b
        elif b.is_floating_point():
            allowed = _TOLERANCE.get(b.dtype, 1e-4) * b.abs().amax().clamp_min(1e-6) if b.numel() else 0
            same = a.shape == b.shape and bool(((a - b).abs() <= allowed).all())
        else:
            same = torch.equal(a, b)
        if not same:
            raise NotOneCall("its output on another input is not what the recorded calls make of it")


class CompiledModule(nn.Module):
    """Base of the classes of compiled models."""

    _tapes: _Tapes | None = None
    _uncompiled: type[nn.Module]

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        tapes = self._tapes
        whole = tapes is not None and len(args) == 1 and not kwargs and not self.training
        if whole and not torch.compiler.is_compiling():
            done, y = _run(self, tapes, args[0])
            if done:
                return y
        return super().forward(*args, **kwargs)

    def train(self, mode: bool = True) -> nn.Module:
        if self._tapes is not None:
            self._tapes.clear()
        return super().train(mode)

    def __reduce_ex__(self, protocol: Any) -> tuple:
        """As the class before it was compiled does it, and compiled again on the other side."""
        function, arguments, *rest = super().__reduce_ex__(protocol)
        if function is copyreg.__newobj__:
            arguments = self._uncompiled, *arguments[1:]
        return _compiled_again, (function, arguments), *rest


def _compiled_again(function: Callable, arguments: tuple) -> nn.Module:
    made = function(*arguments)
    made.__class__ = _compiled_class(type(made))
    return made


@cache
def _compiled_class(original: type[nn.Module]) -> type[nn.Module]:
    names = {
        "__module__": original.__module__,
        "__qualname__": original.__qualname__,
        "__doc__": original.__doc__,
        "_uncompiled": original,
    }
    return type(original.__name__, (CompiledModule, original), names)


def _run(model: CompiledModule, tapes: _Tapes, x: Any) -> tuple[bool, Any]:
    """Whether a tape ran, and its result."""
    if type(x) is not Tensor or not x.is_cpu or not may_prepare(x) or _has_any_global_hook():
        return False, None
    if backends.forced() not in _BACKENDS:
        return False, None
    x = _dense(x)
    key = _layout(x)
    tape = tapes.calls.find(key, x)
    if tape is not None:
        holds, y = tape.run_if_state_holds(x)
        if holds:
            return True, y
        # Unless another thread has recorded anew meanwhile. What was packed goes before that is done again.
        if tapes.calls.find(key, x) is tape:
            tapes.calls.drop(key)
        tape = None
    if tapes.refused or x.numel() == 0 or not x.is_floating_point() or not tapes.calls.wants(key, x):
        return False, None
    if _hooked(model) is not None:
        return False, None
    try:
        model.compile_report = tapes.add(model, x)
    except NotOneCall as error:
        tapes.refused = str(error)
        warnings.warn(f"effops: {type(model).__name__} does not run as one call: {error}", stacklevel=4)
        return False, None
    tape = tapes.calls.get(key, x)
    return (False, None) if tape is None else (True, tape.run(x))
