"""One provider in a process of its own: ``python -m bench.fresh.child REQUEST``, a JSON file of ``process.py``.

Imports nothing but the standard library before it has timed the imports of the provider.
"""

from __future__ import annotations

import importlib
import json
import sys
import time
from pathlib import Path


def main(request_path: str) -> None:
    request = json.loads(Path(request_path).read_text(encoding="utf-8"))
    begin = time.perf_counter()
    for name in request["imports"]:
        importlib.import_module(name)
    import_s = time.perf_counter() - begin
    work = importlib.import_module("bench.fresh.work")
    answer = work.answer(request)
    answer["import_s"] = import_s
    Path(request["answer"]).write_text(json.dumps(answer), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1])
