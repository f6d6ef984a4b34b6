"""Which peers take part, and why the others do not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from .errors import unknown
from .peers import EvalPeer, Peer

SUBJECT = "effops"
# effops' networks without effops.compile_cpu.
MODULES = "effops_modules"
# effops' networks with their weights in a mapped file.
MAPPED = "effops_mapped"


def is_subject(provider: str) -> bool:
    """Whether a provider is effops, in whatever mode."""
    return provider == SUBJECT or provider.startswith(f"{SUBJECT}_")


@dataclass(frozen=True)
class Selection:
    """The peers of a run; effops is always among them.

    Attributes:
        left_out: reason for every peer that the options left out.
    """

    peers: list[Peer]
    left_out: dict[str, str] = field(default_factory=dict)


def timed(peers: Mapping[str, EvalPeer]) -> dict[str, EvalPeer]:
    """Those whose times are of interest."""
    return {name: peer for name, peer in peers.items() if not peer.saves_memory}


def select(registry: Mapping[str, Peer], names: Sequence[str], *, compile: bool, quick: bool) -> Selection:
    """Choose peers.

    Args:
        names: peers asked for; all when empty. A peer that is named runs in a quick run too, compiler or not.
        compile: False leaves out the peers that compile, named or not.
        quick: leaves out the peers that compile, unless they are named.

    Raises:
        BenchError: a name that is no peer.
    """
    for name in names:
        if name not in registry:
            raise unknown("peer", name, registry, f"the peers are {', '.join(registry)}")
    wanted = {name: peer for name, peer in registry.items() if not names or name in names or is_subject(name)}
    left_out = {}
    for name, peer in wanted.items():
        if peer.compiles and not compile:
            left_out[name] = "--no-compile leaves out peers that compile"
        elif peer.compiles and quick and name not in names:
            left_out[name] = "--quick leaves out peers that compile; --peers names them"
    return Selection([peer for name, peer in wanted.items() if name not in left_out], left_out)
