"""Starts a fresh process for a request and reads its answer."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

from bench.environment import ROOT

from .work import Request

# Longer than any compiler that is worth waiting for.
_LIMIT_S = 1200


def _failure(done: subprocess.CompletedProcess[str]) -> str:
    """Why a process ended without an answer, in one line."""
    if done.returncode < 0:
        name = signal.Signals(-done.returncode).name
        return f"its process was ended by {name}{': out of memory?' if name == 'SIGKILL' else ''}"
    lines = [line for line in done.stderr.splitlines() if line.strip()]
    return f"its process ended with code {done.returncode}: {lines[-1].strip() if lines else 'no message'}"


def ask(request: Request) -> dict[str, Any]:
    """The answer of a fresh process: figures by name, or ``error`` alone.

    Caches on disk are empty, as on a machine that sees the network for the first time: torch.compile would otherwise
    load what an earlier process compiled.
    """
    with tempfile.TemporaryDirectory(prefix="effops-bench-caches-") as caches:
        file = Path(caches) / "request.json"
        file.write_text(json.dumps(asdict(request)), encoding="utf-8")
        environment = {**os.environ, "TORCHINDUCTOR_CACHE_DIR": caches, "TRITON_CACHE_DIR": caches}
        Path(request.answer).unlink(missing_ok=True)
        try:
            done = subprocess.run(
                [sys.executable, "-m", "bench.fresh.child", str(file)],
                cwd=ROOT,
                env=environment,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=_LIMIT_S,
            )
        except subprocess.TimeoutExpired:
            return {"error": f"no result within {_LIMIT_S} seconds"}
        if done.returncode != 0 or not Path(request.answer).exists():
            return {"error": _failure(done)}
    return json.loads(Path(request.answer).read_text(encoding="utf-8"))
