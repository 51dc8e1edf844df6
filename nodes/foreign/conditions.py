"""Conditionings as functions of packs see them in the middle of a step: lists of dicts.

    [{"cross_attn": [B, T, D], "pooled_output": [B, D], "strength": 1.0, "entries": ...}]

`entries` are ours; a pack that changes the tensors beside them asks with the changed ones.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch

from ..model.conditioning import Batch, from_wire

__all__ = ["batches_of", "conditions_of"]

ENTRIES = "entries"


def conditions_of(batches: Iterable[Batch]) -> list[dict[str, Any]]:
    """The form for packs."""
    return [_condition(batch) for batch in batches]


def batches_of(conditions: Sequence[Any]) -> tuple[Batch, ...]:
    """And back; a CONDITIONING of a wire is read as well."""
    if all(isinstance(item, (list, tuple)) for item in conditions):
        return from_wire(list(conditions))
    return tuple(_batch(item) for item in conditions)


def _condition(batch: Batch) -> dict[str, Any]:
    first = batch[0]
    found: dict[str, Any] = {ENTRIES: batch, "strength": first.strength, "model_conds": {}}
    if first.text is not None:
        found["cross_attn"] = torch.stack([entry.text for entry in batch if entry.text is not None])
    if first.pooled is not None:
        found["pooled_output"] = torch.stack([entry.pooled for entry in batch if entry.pooled is not None])
    return found | {f"{ENTRIES}.seen": {key: found[key] for key in ("cross_attn", "pooled_output") if key in found}}


def _batch(item: Mapping[str, Any]) -> Batch:
    batch: Batch | None = item.get(ENTRIES)
    if batch is None:
        text = item.get("cross_attn")
        return from_wire([[text, {key: value for key, value in item.items() if key == "pooled_output"}]])[0]
    seen = item.get(f"{ENTRIES}.seen", {})
    changed = {name: item[key] for key, name in _NAMES.items() if key in item and item[key] is not seen.get(key)}
    if not changed and item.get("strength", 1.0) == batch[0].strength:
        return batch
    strength = float(item.get("strength", 1.0))
    return tuple(
        replace(entry, strength=strength, **{name: rows[index % len(rows)] for name, rows in changed.items()})
        for index, entry in enumerate(batch)
    )


_NAMES = {"cross_attn": "text", "pooled_output": "pooled"}
