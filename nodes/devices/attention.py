"""Attention of eager float32 networks on processors where products of matrices are by oneDNN (see `products`).

torch's kernel for attention multiplies by MKL there as well. Two products by oneDNN with a softmax between take 0.6 to
0.7 of its time, for some queries at a time, so that their weights stay in the processor's cache.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from math import prod
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from ..model.row import Row
from .products import are_by_onednn, are_eager, product

__all__ = ["attention", "attention_of_passes"]

LEAST_CELLS = 1024
"""Of the latent of a row. The form of attention is looked at in each of torch's calls, which costs 2 us; a pass over
fewer cells would lose more by it than it wins."""
LEAST_WEIGHTS = 1 << 17
"""Of one head: queries times keys."""
QUERIES = 512
"""At a time."""


def attention_of_passes(rows: Sequence[Row]) -> AbstractContextManager[Any]:
    """What a pass of an eager network about these rows is made in. It hangs on the processor and on shapes alone."""
    if not are_by_onednn():
        return nullcontext()
    cells = max(map(_cells, rows[0].stacked.values()), default=0)
    return _ByOneDNN() if cells >= LEAST_CELLS else nullcontext()


def _cells(tensor: Tensor) -> int:
    """Of a latent [C, ...] or [cells, C]."""
    return prod(tensor.shape[1:]) if tensor.dim() > 2 else tensor.shape[0] if tensor.dim() == 2 else 0


class _ByOneDNN(TorchFunctionMode):
    def __torch_function__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        return (attention if func is F.scaled_dot_product_attention else func)(*args, **(kwargs or {}))


def attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Tensor:
    """As torch's: [B, heads, T, C], [B, heads, S, C] and [B, heads, S, D] -> [B, heads, T, D]."""
    is_plain = attn_mask is None and dropout_p == 0.0 and not is_causal and query.dim() == key.dim() == 4
    if not is_plain or not _is_served(query, key, value):
        return F.scaled_dot_product_attention(
            query, key, value, attn_mask, dropout_p, is_causal, scale=scale, enable_gqa=enable_gqa
        )
    if scale is None:
        scale = query.shape[-1] ** -0.5
    found = query.new_empty(*query.shape[:2], query.shape[2], value.shape[3])
    for row in range(query.shape[0]):
        for head in range(query.shape[1]):
            keys, values = key[row, head] * scale, value[row, head].t().contiguous()
            parts = (torch.split(one[row, head], QUERIES) for one in (query, found))
            for asked, target in zip(*parts, strict=True):
                target.copy_(product(torch.softmax(product(asked, keys), -1), values))
    return found


def _is_served(query: Tensor, key: Tensor, value: Tensor) -> bool:
    return (
        query.shape[:2] == key.shape[:2] == value.shape[:2]
        and query.shape[2] * key.shape[2] >= LEAST_WEIGHTS
        and are_eager(query, key, value)
    )
