"""Multi-query attention over the pixels of a map."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from ..errors import ArgumentError


def mobile_mqa(query: Tensor, key: Tensor, value: Tensor, *, heads: int) -> Tensor:
    """Multi-query attention of MobileNetV4 (Qin et al., arXiv 2404.10518, section 5): every pixel of ``query`` attends
    to all pixels of ``key`` and ``value``, which all heads share.

        y[i, h] = sum_j softmax_j(q[i, h] . k[j] / sqrt(D)) v[j]

    Spatial reduction is a map of keys and values that is smaller than that of the queries. It runs on
    ``torch.nn.functional.scaled_dot_product_attention``, with the heads as further queries of a single head: in
    channels_last no tensor is copied, and torch's flash kernels take it as it is. It trains.

    Args:
        query: (N, heads * D, H, W), the channels of a head next to each other.
        key: (N, D, h, w).
        value: (N, E, h, w).
        heads: queries of a pixel.

    Returns:
        (N, heads * E, H, W), channels_last.

    Raises:
        ArgumentError: a shape, dtype or device does not fit.
    """
    _check(query, key, value, heads)
    batch, _, height, width = query.shape
    queries = _pixels(query).reshape(batch, 1, height * width * heads, key.shape[1])
    found = F.scaled_dot_product_attention(queries, _pixels(key).unsqueeze(1), _pixels(value).unsqueeze(1))
    return found.reshape(batch, height, width, heads * value.shape[1]).permute(0, 3, 1, 2)


def _pixels(x: Tensor) -> Tensor:
    """(N, C, H, W) as (N, H * W, C): a view of a channels_last map."""
    return x.permute(0, 2, 3, 1).flatten(1, 2)


def _check(query: Tensor, key: Tensor, value: Tensor, heads: int) -> None:
    for name, x in (("query", query), ("key", key), ("value", value)):
        if x.dim() != 4:
            raise ArgumentError(f"{name} must be a map (N, C, H, W); got shape {tuple(x.shape)}")
        if (x.dtype, x.device) != (query.dtype, query.device):
            raise ArgumentError(
                f"{name} must have query's dtype and device, {query.dtype} on {query.device}; got {x.dtype} on "
                f"{x.device}. Convert it with {name}.to(query)"
            )
        if x.shape[0] != query.shape[0]:
            raise ArgumentError(f"{name} must have query's batch size {query.shape[0]}; got shape {tuple(x.shape)}")
    if heads < 1 or query.shape[1] != heads * key.shape[1]:
        raise ArgumentError(
            f"query must have heads * D channels, with heads of at least 1 and D = {key.shape[1]}, the channels of "
            f"key; got heads={heads} and {query.shape[1]} channels"
        )
    if key.shape[2:] != value.shape[2:]:
        raise ArgumentError(f"value must have a map of key's size {tuple(key.shape[2:])}; got {tuple(value.shape[2:])}")
