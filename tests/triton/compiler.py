"""Triton kernels compiled for GPUs that are not there: the launches of a row, recorded, as machine code."""

import re
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource, make_backend
from triton.runtime.jit import create_function_from_signature

from effops.ops import triton as triton_backend
from effops.ops.triton.launch import recorded

# The most shared memory that a program may ask for, in KiB, by compute capability.
SHARED_KIB = {80: 163, 90: 227, 100: 227, 120: 99}

_CUOBJDUMP = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "cuobjdump"


@dataclass(frozen=True)
class Resources:
    """What a kernel asks for: registers a thread, bytes of stack a thread (where spills go), bytes of shared memory."""

    registers: int
    stack: int
    shared: int


def launches(sample):
    """What the row would launch for this sample; nothing runs."""
    with recorded() as found:
        triton_backend.launcher(sample.op.name)(*sample.args)
    return found


def compiled(launch, capability):
    """The launch's kernel for an architecture, specialised as Triton's own launcher would do it."""
    target = GPUTarget("cuda", capability, 32)
    backend = make_backend(target)
    kernel = launch.kernel
    binder = create_function_from_signature(kernel.signature, kernel.params, backend)
    keywords = {"debug": False, "instrumentation_mode": "", **launch.keywords}
    bound, specialization, options = binder(*launch.args, **keywords)
    options, signature, constants, attributes = kernel._pack_args(backend, keywords, bound, specialization, options)
    source = ASTSource(kernel, signature, constants, attributes)
    return triton.compile(source, target=target, options=options.__dict__)


def resources(binary):
    """Read from the machine code itself, so that a kernel out of Triton's cache tells them too."""
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(binary.asm["cubin"])
        file.flush()
        report = subprocess.run([_CUOBJDUMP, "-res-usage", file.name], capture_output=True, text=True, check=True)
    found = {key: int(value) for key, value in re.findall(r"(REG|STACK|LOCAL):(\d+)", report.stdout)}
    return Resources(found["REG"], found["STACK"] + found["LOCAL"], binary.metadata.shared)
