"""What a conversion did: block by block what it became, or why it was left."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal


@dataclass(frozen=True)
class Row:
    """One block of a model.

    Attributes:
        path: where it is in the model; several names of one parent are joined by " + ".
        kind: what it is, such as "inverted residual with squeeze-excite".
        state: "fused"; "already fused" before this conversion; "left".
        detail: the ops that it became, or why it was left.
        eligible: of what was left: it holds a convolution with batch norm, which fused ops could run in another place.
        modules: paths of the layers that it stands for.
    """

    path: str
    kind: str
    state: Literal["fused", "already fused", "left"]
    detail: str
    eligible: bool = False
    modules: tuple[str, ...] = ()


@dataclass(frozen=True)
class Shares:
    """How much of a model its fused blocks are, as shares of 1.

    Attributes:
        basis: "macs" when an example was run, with bytes; "parameters" of convolutions and linear layers otherwise.
        macs: multiply-accumulates of convolutions and linear layers; or their parameters.
        bytes: what layers read and write of activations; None without an example.
    """

    basis: Literal["macs", "parameters"]
    macs: float
    bytes: float | None = None

    def __str__(self) -> str:
        if self.basis == "parameters":
            return f"{self.macs:.1%} of the parameters of convolutions and linear layers (no example was run)"
        return f"{self.macs:.1%} of the multiply-accumulates, {self.bytes:.1%} of the activation bytes"


@dataclass(frozen=True)
class FuseReport:
    """All rows, in the model's order; prints as a table.

    Attributes:
        dry_run: nothing was changed.
    """

    model: str
    rows: tuple[Row, ...]
    shares: Shares
    dry_run: bool = False

    @property
    def fused(self) -> tuple[Row, ...]:
        return tuple(row for row in self.rows if row.state != "left")

    @property
    def left(self) -> tuple[Row, ...]:
        return tuple(row for row in self.rows if row.state == "left")

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)

    def summary(self) -> str:
        verb = "would be fused" if self.dry_run else "fused"
        return f"{self.model}: {len(self.fused)} blocks {verb}, {len(self.left)} left; {self.shares}"

    def __str__(self) -> str:
        rows = [("block", "kind", "state", "became, or why not")]
        rows += [(row.path or "(the model)", row.kind, row.state, row.detail) for row in self.rows]
        widths = [max(len(row[i]) for row in rows) for i in range(3)]
        lines = ["  ".join([*(cell.ljust(w) for cell, w in zip(row, widths, strict=False)), row[3]]) for row in rows]
        return "\n".join([lines[0], "-" * len(lines[0]), *lines[1:], "", self.summary()])
