"""Multi-query attention against its formula, pixel by pixel."""

from __future__ import annotations

import pytest
import torch

from effops.errors import ArgumentError
from effops.ops import mobile_mqa


def maps(
    heads: int, *, keys: int = 6, values: int = 5, size: tuple[int, int] = (4, 3), key_size: tuple[int, int] = (2, 2)
):
    g = torch.Generator().manual_seed(0)
    shapes = (2, heads * keys, *size), (2, keys, *key_size), (2, values, *key_size)
    return [torch.randn(shape, generator=g, dtype=torch.float64).requires_grad_() for shape in shapes]


def by_formula(query, key, value, heads):
    batch, _, height, width = query.shape
    y = query.new_zeros(batch, heads * value.shape[1], height, width)
    for head in range(heads):
        own = slice(head * key.shape[1], (head + 1) * key.shape[1])
        scores = torch.einsum("nchw,ncij->nhwij", query[:, own], key) / key.shape[1] ** 0.5
        weights = scores.flatten(3).softmax(-1).view_as(scores)
        y[:, head * value.shape[1] : (head + 1) * value.shape[1]] = torch.einsum("nhwij,ncij->nchw", weights, value)
    return y


@pytest.mark.parametrize("heads", [1, 4])
@pytest.mark.parametrize("layout", [torch.channels_last, torch.contiguous_format])
def test_the_formula_and_its_gradients(heads, layout):
    inputs = maps(heads)
    y = mobile_mqa(*(x.contiguous(memory_format=layout) for x in inputs), heads=heads)
    expected = by_formula(*inputs, heads)
    torch.testing.assert_close(y, expected)
    assert y.is_contiguous(memory_format=torch.channels_last)
    target = torch.randn(y.shape, dtype=y.dtype)
    actual, wanted = (torch.autograd.grad((out * target).sum(), inputs) for out in (y, expected))
    torch.testing.assert_close(actual, wanted)


def test_half_precision_and_an_empty_batch():
    query, key, value = (x.detach() for x in maps(2))
    y = mobile_mqa(query.bfloat16(), key.bfloat16(), value.bfloat16(), heads=2)
    torch.testing.assert_close(y.double(), by_formula(query, key, value, 2), rtol=2e-2, atol=2e-2)
    assert mobile_mqa(query[:0], key[:0], value[:0], heads=2).shape == (0, 10, 4, 3)


def test_it_compiles_for_every_size():
    compiled = torch.compile(mobile_mqa, fullgraph=True, dynamic=True, backend="aot_eager")
    for size in ((4, 3), (5, 2)):
        inputs = maps(2, size=size)
        torch.testing.assert_close(compiled(*inputs, heads=2), mobile_mqa(*inputs, heads=2))


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"query": lambda x: x[0]}, r"query must be a map \(N, C, H, W\); got shape \(12, 4, 3\)"),
        ({"key": lambda x: x.float()}, "key must have query's dtype.*float32"),
        ({"value": lambda x: x[:1]}, "value must have query's batch size 2"),
        ({"query": lambda x: x[:, :7]}, "got heads=2 and 7 channels"),
        ({"value": lambda x: x[..., :1]}, r"value must have a map of key's size \(2, 2\)"),
    ],
)
def test_what_does_not_fit_is_named(change, complaint):
    inputs = dict(zip(("query", "key", "value"), maps(2), strict=True))
    inputs = {name: change.get(name, lambda x: x)(x) for name, x in inputs.items()}
    with pytest.raises(ArgumentError, match=complaint):
        mobile_mqa(**inputs, heads=2)
