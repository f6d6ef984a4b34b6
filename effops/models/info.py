"""What a model costs, without building it."""

from __future__ import annotations

from dataclasses import dataclass

from effops.arch import find_arch, parts, total


@dataclass(frozen=True)
class StageInfo:
    """One part of a network: the stem, a stage of blocks, or the head.

    Attributes:
        name: "stem", "blocks.0", ..., "head".
        depth: number of blocks.
        in_size, out_size: sides of its feature maps in pixels.
    """

    name: str
    depth: int
    in_channels: int
    out_channels: int
    in_size: int
    out_size: int
    params: int
    macs: int
    activations: int
    dw_macs: int


@dataclass(frozen=True)
class ModelInfo:
    """Exact counts of a network for one square image.

    Attributes:
        params: trainable parameters.
        params_with_bn_stats: with the running means and variances.
        macs: multiply-accumulates of convolutions and classifier.
        activations: output elements of convolutions and classifier, without those inside squeeze-excite.
        dw_macs: the part of ``macs`` in depthwise convolutions.
        source: paper or code that the network was taken from.
    """

    name: str
    family: str
    resolution: int
    params: int
    params_with_bn_stats: int
    macs: int
    activations: int
    dw_macs: int
    stages: list[StageInfo]
    source: str


def model_info(name: str, *, resolution: int | None = None, num_classes: int | None = None) -> ModelInfo:
    """Count a model's parameters, multiply-accumulates and activations, as a whole and stage by stage.

    Args:
        name: as in :func:`effops.list_models`.
        resolution: side of the input in pixels, None for the model's own.
        num_classes: None for 1000, those of the tag, or none for an encoder.

    Raises:
        ArgumentError: an unknown name, a resolution below 1 or a negative number of classes.
    """
    arch = find_arch(name)
    counted = parts(arch, resolution=resolution, num_classes=num_classes)
    whole = total(counted)
    return ModelInfo(
        name=arch.name,
        family=arch.family,
        resolution=arch.resolution if resolution is None else resolution,
        params=whole.params,
        params_with_bn_stats=whole.params_with_bn_stats,
        macs=whole.macs,
        activations=whole.activations,
        dw_macs=whole.dw_macs,
        stages=[
            StageInfo(
                part.name,
                part.depth,
                part.in_channels,
                part.out_channels,
                part.in_size,
                part.out_size,
                part.counts.params,
                part.counts.macs,
                part.counts.activations,
                part.counts.dw_macs,
            )
            for part in counted
        ],
        source=arch.source,
    )
