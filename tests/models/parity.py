"""The comparison of a model with its peer, for the tests and for the table in the docs.

    python -m tests.models.parity 'mobilenetv4*' 'efficientnetv2_s'

compares the models of these names, the smallest first, and writes what it measured into docs/parity.csv, from which
``make model-table`` makes docs/models.md. ``--resume`` leaves out what is there already.
"""

from __future__ import annotations

import argparse
import csv
import gc
import time
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import torch
from torch import Tensor, nn

import effops
from effops.models import create_model, list_models, model_info
from effops.models.weights import translate
from tests import peers, plain

RESULTS = Path(__file__).resolve().parents[2] / "docs" / "parity.csv"
# The floor of a comparison in float32: a few roundings.
FLOOR = 1e-6


@dataclass(frozen=True)
class Comparison:
    """Largest differences over the largest expected value. The networks have random weights and statistics.

    Attributes:
        exact: logits in float64, effops' reference against the peer.
        single: logits in float32 on the kernels against the peer in float32.
        layouts: logits of the peer in float32, channels_last against contiguous.
        single_to_exact, peer_to_exact: logits in float32, effops' and the peer's, against the peer in float64.
        gradients: of a training step in float64, the worst parameter; None where it was not run.
    """

    name: str
    peer: str
    exact: float
    single: float
    layouts: float
    single_to_exact: float
    peer_to_exact: float
    gradients: float | None

    def check(self) -> None:
        """In float64 equal to rounding; in float32 1e-5, or twice what parts the peer from float64 or its layouts."""
        assert self.exact < 1e-12
        assert self.single_to_exact <= 2 * self.peer_to_exact + FLOOR
        assert self.single <= max(1e-5, 2 * self.layouts)
        if self.gradients is not None:
            assert self.gradients < 1e-6


def pair(name: str, *, num_classes: int | None = None) -> tuple[nn.Module, nn.Module]:
    """Our model in eval and its peer with random batch norm statistics, with the same weights."""
    ours = create_model(name, num_classes=num_classes).eval()
    theirs = peers.randomise(peers.peer_model(name, num_classes=ours.num_classes))
    ours.load_state_dict(our_state(ours, theirs))
    return ours, theirs


def our_state(ours: nn.Module, theirs: nn.Module) -> dict[str, Tensor]:
    """The peer's state under our keys; plain networks have the same tensors in the same order."""
    if ours.arch.name in plain.NETWORKS:
        return dict(zip(ours.state_dict(), theirs.state_dict().values(), strict=True))
    return translate(ours, theirs.state_dict())


def compare(name: str, *, gradients: bool = True) -> Comparison:
    ours, theirs = pair(name)
    # Odd and even, so that SAME padding is asymmetric on one axis at least.
    x = torch.randn(2, 3, 49, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        single, single_peer = ours(x), theirs(x)
        last = theirs(x.contiguous(memory_format=torch.channels_last))
        assert single_peer.std(0).min() > 0, "the images must not give the same logits"
        with effops.backend("reference"):
            exact = ours.double()(x.double())
        double_peer = theirs.double()(x.double())
    return Comparison(
        name,
        peers.peer_of(name),
        peers.relative_error(exact, double_peer),
        peers.relative_error(single, single_peer),
        peers.relative_error(last, single_peer),
        peers.relative_error(single.double(), double_peer),
        peers.relative_error(single_peer.double(), double_peer),
        gradient_error(ours, theirs) if gradients else None,
    )


def gradient_error(ours: nn.Module, theirs: nn.Module) -> float:
    """Of a training step of models in float64: logits, gradients and running statistics, the worst of all."""
    ours.train(), theirs.train()
    for module in theirs.modules():
        # torchvision's models drop by default, at random.
        if type(module).__name__ in ("Dropout", "StochasticDepth"):
            module.p = 0.0
    x = torch.randn(4, 3, 49, 64, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    logits, logits_peer = ours(x), theirs(x)
    # A sum of squares of a batch-normalised output would hardly depend on the weights.
    target = torch.randn(logits.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    (logits * target).sum().backward()
    (logits_peer * target).sum().backward()
    worst = peers.relative_error(logits.detach(), logits_peer.detach())
    grads = our_gradients(ours, theirs)
    largest = max(grad.abs().max() for grad in grads.values())
    for key, parameter in ours.named_parameters():
        # A bias between two batch norms has a gradient of zero: what is there is rounding.
        scale = max(grads[key].abs().max(), 1e-6 * largest)
        worst = max(worst, ((parameter.grad - grads[key]).abs().max() / scale).item())
    expected = our_state(ours, theirs)
    for key, value in ours.state_dict().items():
        if key.endswith(("running_mean", "running_var", "num_batches_tracked")):
            worst = max(worst, ((value - expected[key]).abs().max() / expected[key].abs().max()).item())
    return worst


def our_gradients(ours: nn.Module, theirs: nn.Module) -> dict[str, Tensor]:
    """The peer's gradients under our keys and in our shapes."""
    if ours.arch.name in plain.NETWORKS:
        keys, found = [key for key, _ in ours.named_parameters()], [p.grad for p in theirs.parameters()]
        return dict(zip(keys, found, strict=True))
    state = theirs.state_dict(keep_vars=True)
    values = {key: value if value.grad is None else value.grad for key, value in state.items()}
    return translate(ours, values)


def read_results() -> dict[str, Comparison]:
    if not RESULTS.is_file():
        return {}
    with RESULTS.open(encoding="utf-8") as file:
        return {row["name"]: _parsed(row) for row in csv.DictReader(file)}


def _parsed(row: dict[str, str]) -> Comparison:
    texts = ("name", "peer")
    return Comparison(**{key: v if key in texts else (float(v) if v else None) for key, v in row.items()})


def write_results(results: dict[str, Comparison]) -> None:
    with RESULTS.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, [field.name for field in fields(Comparison)], lineterminator="\n")
        writer.writeheader()
        for name in sorted(results):
            row = asdict(results[name])
            writer.writerow({key: f"{v:.2e}" if isinstance(v, float) else v for key, v in row.items()})


def main() -> None:
    parser = argparse.ArgumentParser(description="Compare models with their peers.")
    parser.add_argument("globs", nargs="*", default=["*"])
    parser.add_argument("--resume", action="store_true", help="leave out models that the file has")
    parser.add_argument("--gradients-up-to", type=float, default=1e9, metavar="PARAMS", help="of models of this size")
    settings = parser.parse_args()
    torch.set_num_threads(1)
    names = {name for glob in settings.globs for name in list_models(glob)}
    params = {name: model_info(name).params for name in names - set(read_results() if settings.resume else ())}
    failed = []
    print(len(params), "to compare", flush=True)
    for name in sorted(params, key=lambda name: (params[name], name)):
        start = time.monotonic()
        found = compare(name, gradients=params[name] <= settings.gradients_up_to)
        print(f"{time.monotonic() - start:6.1f} s  {found}", flush=True)
        write_results({**read_results(), name: found})
        gc.collect()
        try:
            found.check()
        except AssertionError:
            failed.append(name)
    print(f"{len(params)} compared, {len(failed)} failed: {', '.join(failed)}")


if __name__ == "__main__":
    main()
