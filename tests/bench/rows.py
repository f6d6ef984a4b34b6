"""Rows of made-up runs."""

from __future__ import annotations

from dataclasses import replace

from bench.environment import Environment
from bench.record import Row

ENVIRONMENT = Environment(
    date="2026-01-02T03:04:05+00:00",
    torch="2.13.0+cpu",
    effops="0.1.0",
    backend="default",
    git_sha="abc1234+",
    python="3.11.7",
    system="Linux x86_64",
    cpu='Some "CPU", 2 cores',
    isa="avx2",
    torch_isa="AVX2",
    threads=2,
    affinity="0-1",
    last_level_cache_bytes=1 << 25,
)


def row(provider: str, p50_ms: float, *, case: str = "mobilenetv2_100", batch: int = 1, spread: float = 0.02) -> Row:
    """A timed row of the models suite; p20 and p80 lie half the spread below and above the median."""
    return Row(
        suite="models",
        case=case,
        models=case,
        network="timm 1.0",
        batch=batch,
        resolution=224,
        dtype="float32",
        cache="warm",
        allocator="system",
        provider=provider,
        status="ok",
        prepare_s=0.5,
        rounds=20,
        p20_ms=p50_ms * (1 - spread / 2),
        p50_ms=p50_ms,
        p80_ms=p50_ms * (1 + spread / 2),
        error=1e-6,
        allowed_error=1e-5,
        others=0.01,
        load_1m=1.0,
        environment=ENVIRONMENT,
    )


def op_row(provider: str, share: float, *, case: str = "depthwise 14x14 c480 k3 s1 silu") -> Row:
    """A timed row of the ops suite."""
    return replace(
        row(provider, 0.1, case=case),
        suite="ops",
        op="depthwise_conv_act",
        resolution=None,
        cache="cold",
        macs=1000,
        bytes=2000,
        gbps=10.0,
        gflops=5.0,
        copy_gbps=20.0,
        gemm_gflops=200.0,
        limit="bandwidth",
        share_of_limit=share,
    )


def train_row(provider: str, p50_ms: float, held_mib: float | None = 100.0, **changes) -> Row:
    """A timed row of the train suite."""
    held = None if held_mib is None else int(held_mib * 2**20)
    found = row(provider, p50_ms, case="efficientnet_b0", batch=16)
    return replace(found, suite="train", held_bytes=held, peak_bytes=held and 2 * held, **changes)


def untimed(provider: str, status: str, reason: str) -> Row:
    """A row of a provider that was not timed."""
    return replace(row(provider, 1.0), status=status, reason=reason, rounds=None, p20_ms=None, p50_ms=None, p80_ms=None)
