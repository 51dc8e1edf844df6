"""A text that is being written, as tensors: a run that was stopped goes on from them with the same words.

The keys and values of all tokens so far are kept, not computed anew from the tokens: many tokens in one pass round in
another way than one by one, and a word that is nearly as likely as another could change.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache

__all__ = ["Written", "new_cache"]

POSITIONS = "rope_deltas"
"""The attribute in which models that see images note where the text behind the images stands."""


@dataclass(frozen=True, eq=False)
class Written:
    """The state behind a token."""

    ids: tuple[int, ...]
    """Those that were written."""
    generator: Tensor | None
    """The state of the generator that words are drawn with."""
    positions: Tensor | None
    layers: Sequence[tuple[Tensor, Tensor, int]]
    """Keys and values [1, heads, T, d] of each layer, for all tokens but the last, and how many tokens it has seen: a
    layer with a sliding window keeps the last ones only."""

    @staticmethod
    def of(ids: Sequence[int], cache: Any, model: Any, generator: torch.Generator | None) -> Written:
        layers = [
            (layer.keys, layer.values, int(getattr(layer, "cumulative_length", layer.keys.shape[-2])))
            for layer in cache.layers
        ]
        positions = getattr(model.model, POSITIONS, None)
        return Written(tuple(ids), generator.get_state() if generator is not None else None, positions, layers)

    def to_tensors(self) -> dict[str, Tensor]:
        found = {"ids": torch.tensor(self.ids, dtype=torch.long)}
        if self.generator is not None:
            found["generator"] = self.generator
        if self.positions is not None:
            found["positions"] = self.positions.cpu()
        for number, (keys, values, seen) in enumerate(self.layers):
            found[f"{number}.keys"], found[f"{number}.values"] = keys.cpu(), values.cpu()
            found[f"{number}.seen"] = torch.tensor(seen)
        return found

    @staticmethod
    def from_tensors(tensors: Mapping[str, Tensor]) -> Written:
        count = sum(name.endswith(".keys") for name in tensors)
        layers = [
            (tensors[f"{number}.keys"], tensors[f"{number}.values"], int(tensors[f"{number}.seen"]))
            for number in range(count)
        ]
        ids = tuple(tensors["ids"].tolist())
        return Written(ids, tensors.get("generator"), tensors.get("positions"), layers)

    def put(self, cache: Any, model: Any, device: torch.device) -> None:
        """Fill the empty cache of a model."""
        for layer, (keys, values, seen) in zip(cache.layers, self.layers, strict=True):
            layer.update(keys.to(device), values.to(device))
            if hasattr(layer, "cumulative_length"):
                layer.cumulative_length = seen
        if self.positions is not None:
            setattr(model.model, POSITIONS, self.positions.to(device))


def new_cache(model: Any) -> Any:
    """An empty cache with the layers of a model."""
    untyped: Any = DynamicCache
    return untyped(config=model.config)
