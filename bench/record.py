"""The CSV: one row a provider and case, with the environment; the columns are the fields of :class:`Row`."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, NamedTuple, get_type_hints

from .environment import Environment
from .errors import BenchError


class CaseKey(NamedTuple):
    """What rows must share to be compared with each other, and what no other case of a file has."""

    suite: str
    case: str
    batch: int
    resolution: int | None
    dtype: str
    cache: str


@dataclass(frozen=True, kw_only=True)
class Row:
    """What one provider did in one case.

    Attributes:
        suite: the command that measured it, such as "models".
        case: readable name of the problem, unique in a suite together with batch and dtype.
        op: function of ``effops.ops`` in the ops suite, row of the op table in kernels, kind of kernel in split; else
            empty.
        models: the networks that the case belongs to, separated by spaces.
        network: where the plain network of the peers comes from, or what stands for it.
        cache: "cold" when buffers rotate past the last-level cache, "warm" when every call reads the same
            ones.
        allocator: how result memory is allocated; page faults of fresh memory can cost more than the kernel.
        status: "ok", "skipped" (cannot run here), "failed" (raised an error) or "wrong" (disqualified, not
            timed).
        reason: why, when the status is not "ok".
        import_s, export_s: seconds for importing the provider's libraries, and for writing the ONNX file that it reads;
            in neither of the times below.
        prepare_s: seconds for building and the first call, compilation included.
        first_call_s: the first call's part of these.
        p20_ms, p50_ms, p80_ms: milliseconds a call, or a training step, over ``rounds`` interleaved samples; in the
            coldstart suite to the first result.
        error, allowed_error: largest difference to float64 over the largest float64 value, and its limit. In
            the train suite, of the tensor that comes nearest to its limit: loss, gradient or statistic, in
            the 2-norm.
        macs, bytes: the least work of a call: every input read once, every output written once.
        gbps: bytes over p50. gflops: 2 macs over p50.
        copy_gbps: copy bandwidth (read and written) of the same working set in the same rounds.
        gemm_gflops: rate of a large matrix product in the same dtype, the arithmetic limit.
        limit: which of the two binds, "bandwidth" or "arithmetic".
        share_of_limit: time at that limit over p50.
        held_bytes: activations that a training step holds between forward and backward.
        peak_bytes: growth of the process's resident memory at the highest point of a training step; in the memory
            suite, of preparation and first calls.
        steady_bytes: the same at the highest point of later calls.
        others: share of the processors that other processes took while the case ran.
        load_1m: load average when the case ended.
    """

    suite: str
    case: str
    op: str = ""
    models: str
    network: str = ""
    batch: int
    resolution: int | None = None
    dtype: str
    cache: str
    allocator: str
    provider: str
    status: str
    reason: str = ""
    import_s: float | None = None
    export_s: float | None = None
    prepare_s: float | None = None
    first_call_s: float | None = None
    rounds: int | None = None
    p20_ms: float | None = None
    p50_ms: float | None = None
    p80_ms: float | None = None
    error: float | None = None
    allowed_error: float | None = None
    macs: int | None = None
    bytes: int | None = None
    gbps: float | None = None
    gflops: float | None = None
    copy_gbps: float | None = None
    gemm_gflops: float | None = None
    limit: str = ""
    share_of_limit: float | None = None
    held_bytes: int | None = None
    peak_bytes: int | None = None
    peak_p20_bytes: int | None = None
    peak_p80_bytes: int | None = None
    steady_bytes: int | None = None
    steady_p20_bytes: int | None = None
    steady_p80_bytes: int | None = None
    others: float | None = None
    load_1m: float | None = None
    environment: Environment

    @property
    def key(self) -> CaseKey:
        return CaseKey(self.suite, self.case, self.batch, self.resolution, self.dtype, self.cache)

    @property
    def task(self) -> CaseKey:
        """The key of the task that measured it: in split a task gives a case for every kind of kernel."""
        return self.key._replace(case=self.models) if self.suite == "split" else self.key


_ROW_FIELDS = [field.name for field in fields(Row) if field.name != "environment"]
# Columns that came later; files from before stay readable.
_LATER = {
    *("held_bytes", "peak_bytes", "steady_bytes", "import_s", "export_s", "first_call_s"),
    *("peak_p20_bytes", "peak_p80_bytes", "steady_p20_bytes", "steady_p80_bytes"),
    *("device", "packages"),
}
_ENVIRONMENT_FIELDS = [field.name for field in fields(Environment)]
COLUMNS = [*_ROW_FIELDS, *_ENVIRONMENT_FIELDS]
_TYPES: dict[str, Any] = {**get_type_hints(Environment), **get_type_hints(Row)}
_CASTS = {str: str, int: int, float: float, int | None: int, float | None: float}


def _cell(value: object) -> str:
    if value is None:
        return ""
    return repr(value) if isinstance(value, float) else str(value)


def _cells(row: Row) -> list[str]:
    of_row = [_cell(getattr(row, name)) for name in _ROW_FIELDS]
    return of_row + [_cell(getattr(row.environment, name)) for name in _ENVIRONMENT_FIELDS]


def _value(column: str, text: str) -> Any:
    kind = _TYPES[column]
    if text == "" and kind is not str:
        return None
    return _CASTS[kind](text)


def _row(cells: Mapping[str, str]) -> Row:
    environment, row = (
        {name: _value(name, cells[name]) for name in names if name in cells}
        for names in (_ENVIRONMENT_FIELDS, _ROW_FIELDS)
    )
    return Row(environment=Environment(**environment), **row)


def write(rows: Iterable[Row], path: Path) -> None:
    """Write a CSV in one step: a reader never sees half a file, and an interruption never leaves one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with unfinished.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(COLUMNS)
            writer.writerows(_cells(row) for row in rows)
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)


def read(path: Path) -> list[Row]:
    """Read a CSV that :func:`write` made.

    Raises:
        BenchError: the file is missing, is no bench CSV, or holds no rows.
    """
    try:
        with path.open(newline="", encoding="utf-8") as file:
            reader = csv.DictReader(file)
            missing = [name for name in COLUMNS if name not in (reader.fieldnames or ()) and name not in _LATER]
            if missing:
                raise BenchError(
                    f"{path} is no CSV of this bench: it lacks the columns {', '.join(missing[:5])}"
                    f"{' ...' if len(missing) > 5 else ''}. Measure again: python -m bench models"
                )
            rows = [_row(cells) for cells in reader]
    except OSError as error:
        raise BenchError(f"cannot read {path}: {error.strerror}. python -m bench models writes one") from error
    except BenchError:
        raise
    # Also what a number that is none, a missing cell, or a file that is no text leads to.
    except (csv.Error, ValueError, TypeError) as error:
        raise BenchError(f"{path} is no CSV of this bench: {error}") from error
    if not rows:
        raise BenchError(f"{path} holds no rows")
    return rows
