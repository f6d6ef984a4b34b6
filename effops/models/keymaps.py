"""Spellings of checkpoints: which foreign key is which of ours.

A map is made from a network's row, so one function serves all sizes of a family. The spelling is recognised
by the keys of the checkpoint alone. It also tells where the weights were trained, and so which padding and
batch norm eps they need: the shapes do not tell, so the wrong twin would load without complaint and give
wrong answers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import count

from effops.arch import ARCHS, Arch, Block, Conv, ConvBNAct, DepthwiseSeparable, InvertedResidual

_LEARNED_LEAVES = {"scale": ("gamma",), "linear": ("weight", "bias")}

Modules = Iterator[tuple[str, str]]


@dataclass(frozen=True)
class Spelling:
    """A way to name a network's tensors.

    Attributes:
        name: who names them so.
        signs: keys one of which every such checkpoint has, and no other kind.
        families: the families that it exists for.
        port: where its weights were trained, as in ``Arch.port``; None when the spelling does not tell.
        modules: pairs (foreign module path, our module path) of a network, every module with parameters once.
    """

    name: str
    signs: tuple[str, ...]
    families: frozenset[str]
    port: str | None
    modules: Callable[[Arch], Modules]

    def keys(self, arch: Arch) -> dict[str, str]:
        """Foreign key -> our key, for every tensor of a network with a classifier."""
        leaves = _leaves(arch)
        return {f"{foreign}.{leaf}": f"{ours}.{leaf}" for foreign, ours in self.modules(arch) for leaf in leaves[ours]}


def _leaves(arch: Arch) -> dict[str, tuple[str, ...]]:
    """Our module paths with the names of their tensors."""
    found = {"classifier": _LEARNED_LEAVES["linear"]}
    counter = ("num_batches_tracked",) if arch.norm.statistics else ()
    norm = (*arch.norm.learned, *arch.norm.statistics, *counter)
    for conv in arch.convs():
        found[conv.name] = ("weight", "bias") if conv.bias else ("weight",)
        if conv.bn:
            found[conv.bn] = norm
    for item in arch.learned():
        found[item.name] = _LEARNED_LEAVES.get(item.kind, norm)
    return found


def find_spelling(keys: Iterable[str]) -> Spelling | None:
    """The spelling that these keys are written in."""
    present = set(keys)
    return next((spelling for spelling in SPELLINGS.values() if not present.isdisjoint(spelling.signs)), None)


def _blocks(arch: Arch) -> Iterator[tuple[int, int, Block, str]]:
    for stage_index, stage in enumerate(arch.stages):
        for block_index, block in enumerate(stage):
            yield stage_index, block_index, block, f"blocks.{stage_index}.{block_index}."


def _timm(arch: Arch) -> Modules:
    yield from ((name, name) for name in _leaves(arch))


def _torchvision_mobilenet_v2(arch: Arch) -> Modules:
    yield from _pair("features.0", "conv_stem", "bn1")
    flat = count(1)
    for _, _, block, ours in _blocks(arch):
        prefix = f"features.{next(flat)}.conv"
        *nested, project = block.convs()
        for layer, conv in enumerate(nested):
            yield from _pair(f"{prefix}.{layer}", ours + conv.name, ours + conv.bn)
        # The projection and its norm are not wrapped, so they take two numbers.
        yield f"{prefix}.{len(nested)}", ours + project.name
        yield f"{prefix}.{len(nested) + 1}", ours + project.bn
    yield from _pair(f"features.{next(flat)}", "conv_head", "bn2")
    yield "classifier.1", "classifier"


def _torchvision_mobilenet_v3(arch: Arch) -> Modules:
    yield from _pair("features.0", "conv_stem", "bn1")
    flat = count(1)
    for _, _, block, ours in _blocks(arch):
        prefix = f"features.{next(flat)}"
        if isinstance(block, ConvBNAct):
            yield from _pair(prefix, ours + "conv", ours + "bn1")
        else:
            yield from _torchvision_layers(f"{prefix}.block", ours, block.convs())
    # A linear layer there, the same matrix as a 1 x 1 convolution here.
    yield "classifier.0", "conv_head"
    yield "classifier.3", "classifier"


def _torchvision_efficientnet(arch: Arch) -> Modules:
    yield from _pair("features.0", "conv_stem", "bn1")
    for stage_index, block_index, block, ours in _blocks(arch):
        yield from _torchvision_layers(f"features.{stage_index + 1}.{block_index}.block", ours, block.convs())
    yield from _pair(f"features.{len(arch.stages) + 1}", "conv_head", "bn2")
    yield "classifier.1", "classifier"


_TORCHVISION = {
    "EfficientNet": _torchvision_efficientnet,
    "EfficientNetV2": _torchvision_efficientnet,
    "MobileNetV2": _torchvision_mobilenet_v2,
    "MobileNetV3": _torchvision_mobilenet_v3,
}


def _pair(prefix: str, conv: str, bn: str) -> Modules:
    yield f"{prefix}.0", conv
    yield f"{prefix}.1", bn


def _torchvision_layers(prefix: str, ours: str, convs: tuple[Conv, ...]) -> Modules:
    """Layers of a block are numbered through; squeeze-excite is one of them, with two convolutions."""
    layer = 0
    for conv in convs:
        if conv.name == "se.conv_reduce":
            yield f"{prefix}.{layer}.fc1", ours + conv.name
            continue
        if conv.name == "se.conv_expand":
            yield f"{prefix}.{layer}.fc2", ours + conv.name
        else:
            yield from _pair(f"{prefix}.{layer}", ours + conv.name, ours + conv.bn)
        layer += 1


# Convolutions by their names here, and the number of the block's first norm: 0 is the expansion's.
_LUKEMELAS_SE = {"se.conv_reduce": "_se_reduce", "se.conv_expand": "_se_expand"}
_LUKEMELAS = {
    DepthwiseSeparable: (1, {"conv_dw": "_depthwise_conv", "conv_pw": "_project_conv", **_LUKEMELAS_SE}),
    InvertedResidual: (
        0,
        {
            "conv_pw": "_expand_conv",
            "conv_dw": "_depthwise_conv",
            "conv_pwl": "_project_conv",
            **_LUKEMELAS_SE,
        },
    ),
}


def _lukemelas(arch: Arch) -> Modules:
    """EfficientNet-PyTorch by lukemelas, and the Lite ports with its names: blocks are numbered through."""
    yield "_conv_stem", "conv_stem"
    yield "_bn0", "bn1"
    for flat, (_, _, block, ours) in enumerate(_blocks(arch)):
        first_norm, names = _LUKEMELAS[type(block)]
        norms = count(first_norm)
        for conv in block.convs():
            yield f"_blocks.{flat}.{names[conv.name]}", ours + conv.name
            if conv.bn:
                yield f"_blocks.{flat}._bn{next(norms)}", ours + conv.bn
    yield "_conv_head", "conv_head"
    yield "_bn1", "bn2"
    yield "_fc", "classifier"


SPELLINGS = {
    spelling.name: spelling
    for spelling in (
        Spelling(
            name="timm",
            signs=("conv_stem.weight", "conv_stem.conv.weight"),
            families=frozenset(arch.family for arch in ARCHS.values()),
            port=None,
            modules=_timm,
        ),
        Spelling(
            name="torchvision",
            signs=("features.0.0.weight",),
            families=frozenset(_TORCHVISION),
            port="torchvision",
            modules=lambda arch: _TORCHVISION[arch.family](arch),
        ),
        Spelling(
            name="lukemelas",
            signs=("_conv_stem.weight",),
            families=frozenset({"EfficientNet", "EfficientNet-Lite"}),
            port="tensorflow",
            modules=_lukemelas,
        ),
    )
}
