"""Functions of packs in the attention of a U-Net.

For a transformer block of n heads, with x [N, T, D] normed and the text c [N, S, C] (in self-attention, `attn1`, c is
x):

    attn1_patch(x, c, v, options) -> (x, c, v)     before the projections; v is what values are made of
    attn1_replace(q, k, v, options) -> [N, T, n d] in place of the attention of projected queries, keys and values
    attn1_output_patch(y, options) -> y            after the projection of the answer

`options` are the `transformer_options` of the call, with the place: `block`, `block_index`, `transformer_index`,
`n_heads`, `dim_head`, `original_shape`, `activations_shape`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from ..patches.attention import processors_of
from ..patches.token_places import TokenPlaces, token_places
from .origin import PackOrigin, called
from .unet_places import UNetPlaces, unet_places

__all__ = ["attention", "attention_under"]

KINDS = ("attn1", "attn2")
OriginOf = Callable[[Any], PackOrigin]


@contextmanager
def attention_under(module: torch.nn.Module, options: Mapping[str, Any], origin: OriginOf) -> Iterator[None]:
    """The attention of a U-Net under the functions of `transformer_options` until the end of the block."""
    wanted = [kind for kind in KINDS if _acts(options, kind)]
    if not wanted:
        yield
        return
    unet: Any = module
    places, channels = unet_places(module), int(unet.config.in_channels)
    with token_places(module) as sides:
        makers = {kind: partial(_Attention, kind, options, origin, places, sides, channels) for kind in KINDS}
        attn1 = makers["attn1"] if "attn1" in wanted else _as_before
        attn2 = makers["attn2"] if "attn2" in wanted else _as_before
        with processors_of(module, "*.attn1", attn1), processors_of(module, "*.attn2", attn2):
            yield


def attention(q: Tensor, k: Tensor, v: Tensor, heads: int, mask: Tensor | None = None) -> Tensor:
    """q [N, T, n d], k and v [N, S, n d] -> [N, T, n d], as ComfyUI's `optimized_attention`."""
    q, k, v = (one.reshape(*one.shape[:-1], heads, -1).transpose(1, 2) for one in (q, k, v))
    if mask is not None and mask.dim() < 4:
        mask = mask[None] if mask.dim() == 2 else mask
        mask = mask[:, None]
    return scaled_dot_product_attention(q, k, v, attn_mask=mask).transpose(1, 2).flatten(2)


def _acts(options: Mapping[str, Any], kind: str) -> bool:
    patches = options.get("patches", {})
    names = (f"{kind}_patch", f"{kind}_output_patch")
    return any(patches.get(name) for name in names) or bool(options.get("patches_replace", {}).get(kind))


def _as_before(name: str, before: Any) -> Any:
    return before


class _Attention:
    """In place of a diffusers attention processor."""

    def __init__(
        self,
        kind: str,
        options: Mapping[str, Any],
        origin: OriginOf,
        places: UNetPlaces,
        sides: TokenPlaces,
        channels: int,
        name: str,
        before: Any,
    ) -> None:
        self._before, self._origin, self._sides, self._channels = before, origin, sides, channels
        patches = options.get("patches", {})
        self._first = patches.get(f"{kind}_patch", ())
        self._last = patches.get(f"{kind}_output_patch", ())
        block, index, number = places.transformers[name.rpartition(".")[0]]
        self._place = {"block": (block.part, block.number), "block_index": index, "transformer_index": number}
        replaced = options.get("patches_replace", {}).get(kind, {})
        at = (block.part, block.number)
        self._instead = replaced.get((*at, index), replaced.get(at))
        self._options = options

    def __call__(
        self,
        layer: Any,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
        *rest: Any,
        **named: Any,
    ) -> Tensor:
        options = self._stated(layer, hidden_states)
        x, own = hidden_states, encoder_hidden_states
        context = value = hidden_states if own is None else own
        for patch in self._first:
            x, context, value = called(self._origin(patch), patch, x, context, value, options)
        if self._instead is not None:
            q, k, v = layer.to_q(x), layer.to_k(context), layer.to_v(value)
            found = _out(layer, called(self._origin(self._instead), self._instead, q, k, v, options))
        elif value is context:
            given = None if own is None and context is x else context
            found = self._before(layer, x, given, attention_mask, *rest, **named)
        else:
            q, k, v = layer.to_q(x), layer.to_k(context), layer.to_v(value)
            found = _out(layer, attention(q, k, v, layer.heads))
        for patch in self._last:
            found = called(self._origin(patch), patch, found, options)
        return found

    def _stated(self, layer: Any, x: Tensor) -> dict[str, Any]:
        rows, tokens, _ = x.shape
        height, width, _ = self._sides.grid(tokens)
        return {
            **self._options,
            **self._place,
            "n_heads": layer.heads,
            "dim_head": layer.to_q.out_features // layer.heads,
            "original_shape": [rows, self._channels, self._sides.height, self._sides.width],
            "activations_shape": [rows, x.shape[-1], height, width],
            "attn_precision": None,
        }


def _out(layer: Any, found: Tensor) -> Tensor:
    for module in layer.to_out:
        found = module(found)
    return found
