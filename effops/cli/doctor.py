"""``effops doctor``: what this installation can do on this machine."""

from __future__ import annotations

import os
import platform
from importlib.util import find_spec
from typing import Annotated, Any

import torch
import typer
from rich.console import Console
from rich.markup import escape

import effops
from effops.cli.console import examples, output, print_json, properties, records
from effops.ops import backends, extension
from effops.ops.table import OPS

EXAMPLES = examples("effops doctor", "effops doctor --json > report.json")


def doctor(as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False) -> None:
    """Show which backend serves each op here, and why the others do not; versions and build flags."""
    findings = examine()
    if as_json:
        print_json(findings)
    else:
        _show(findings, output())


def examine() -> dict[str, Any]:
    """What the doctor found, in plain values."""
    return {
        "versions": {
            "effops": effops.__version__,
            "python": platform.python_version(),
            "torch": torch.__version__,
            "platform": platform.platform(),
        },
        "extension": _extension(),
        "cpu": _cpu(),
        "cuda": _cuda(),
        "triton": _triton(),
        "environment": {name: value for name, value in sorted(os.environ.items()) if name.startswith("EFFOPS_")},
        "ops": [
            {"op": row.op, "device": row.device, "backend": row.backend, "reasons": row.reasons}
            for row in backends.report()
        ],
    }


def _extension() -> dict[str, Any]:
    module = extension.module
    if module is None:
        return {"loaded": False, "error": extension.load_error, "build": {}}
    return {"loaded": True, "error": None, "build": module.build_info()}


def _cpu() -> dict[str, Any]:
    """Threads, and the instruction sets: what the processor has, what the build offers, what was chosen."""
    facts: dict[str, Any] = {"threads": torch.get_num_threads()}
    if (module := extension.module) is not None:
        facts["features"] = [name for name, present in module.cpu_features().items() if present]
        facts["isas"] = list(module.available_isas())
        facts["isa"] = module.isa()
    return facts


def _cuda() -> dict[str, Any]:
    devices = []
    if torch.cuda.is_available():
        devices = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    return {"torch_built_for": torch.version.cuda, "devices": devices}


def _triton() -> dict[str, Any]:
    return {"installed": find_spec("triton") is not None}


def _show(findings: dict[str, Any], console: Console) -> None:
    versions = properties("Versions")
    for name, value in findings["versions"].items():
        versions.add_row(name, escape(value))
    console.print(versions, "")

    _show_extension(findings, console)
    _show_devices(findings, console)
    _show_ops(findings["ops"], console)
    console.print(_verdict(findings))


def _show_extension(findings: dict[str, Any], console: Console) -> None:
    found = findings["extension"]
    table = properties("C++ extension")
    if found["loaded"]:
        table.add_row("state", "[green]loaded[/]")
        for name, value in found["build"].items():
            table.add_row(name, escape(value))
    else:
        table.add_row("state", "[yellow]not loaded[/]")
        table.add_row("reason", escape(found["error"]))
    console.print(table, "")


def _show_devices(findings: dict[str, Any], console: Console) -> None:
    cpu, cuda = findings["cpu"], findings["cuda"]
    table = properties("Devices")
    table.add_row("CPU threads", str(cpu["threads"]))
    if "isa" in cpu:
        table.add_row("CPU features", ", ".join(cpu["features"]) or "none of those that the kernels use")
        tiers = [f"[green]{isa} (chosen)[/]" if isa == cpu["isa"] else isa for isa in cpu["isas"]]
        table.add_row("CPU kernels", ", ".join(tiers))
    built_for = cuda["torch_built_for"]
    table.add_row("CUDA", ", ".join(cuda["devices"]) or f"no device; this torch is built for {_cuda_build(built_for)}")
    table.add_row("Triton", "installed" if findings["triton"]["installed"] else "not installed")
    for name, value in findings["environment"].items():
        table.add_row(name, escape(value))
    console.print(table, "")


def _cuda_build(version: str | None) -> str:
    return f"CUDA {version}" if version else "the CPU alone"


def _show_ops(ops: list[dict[str, Any]], console: Console) -> None:
    """One row an op and device, then why the backends that serve none of it do not."""
    table = records("Ops")
    for heading in ("op", "device", "served by", "also here"):
        table.add_column(heading)
    refused: dict[tuple[str, str, str], list[str]] = {}
    for row in ops:
        others = {name: reason for name, reason in row["reasons"].items() if name != row["backend"]}
        also = [name for name, reason in others.items() if reason == "available"]
        color = "yellow" if row["backend"] == "reference" else "green"
        table.add_row(row["op"], row["device"], f"[{color}]{row['backend']}[/]", ", ".join(also) or "-")
        for name in others.keys() - set(also):
            refused.setdefault((name, row["device"], others[name]), []).append(row["op"])
    console.print(table, "")
    if refused:
        _show_refused(refused, console)


def _show_refused(refused: dict[tuple[str, str, str], list[str]], console: Console) -> None:
    """Which backend serves which ops not; most often a reason holds for all of them."""
    table = records("Not served")
    for heading in ("by", "device", "ops", "because"):
        table.add_column(heading, overflow="fold")
    for (name, device, reason), names in sorted(refused.items()):
        table.add_row(name, device, "all" if len(names) == len(OPS) else "\n".join(names), escape(reason))
    console.print(table, "")


def _verdict(findings: dict[str, Any]) -> str:
    forced = findings["environment"].get("EFFOPS_BACKEND")
    if forced and forced not in backends.BACKENDS:
        known = ", ".join(backends.BACKENDS)
        return (
            f"[red]EFFOPS_BACKEND is {escape(forced)}, which no backend is called: every op raises. Known: {known}.[/]"
        )
    if forced:
        return f"[yellow]effops is usable; EFFOPS_BACKEND makes every op run on {escape(forced)}, or raise.[/]"
    on_reference = [row["op"] for row in findings["ops"] if row["backend"] == "reference"]
    if not on_reference:
        return "[green]effops is ready: fused kernels serve every op.[/]"
    if len(on_reference) < len(findings["ops"]):
        return f"[yellow]effops is usable; on plain torch, without speed-up: {', '.join(on_reference)}.[/]"
    return "[yellow]effops is usable, but every op runs on plain torch, without speed-up.[/]"
