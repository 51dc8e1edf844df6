"""Reference images of FLUX.2 klein at time 0, apart from the image: as the model for a cache of them was trained.

They see only each other, so their keys and values are the same in all steps: they are asked for once a run, with one
token in place of the text and one in place of the image, which they do not see.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ...model.patch import CallPatch
from ...model.row import Row

if TYPE_CHECKING:
    from torch.nn import Module

__all__ = ["AT_ZERO", "KEEP", "ReferencesAtZero"]

AT_ZERO = "references_at_zero"
"""The attribute of a network that `forward` looks at."""

KEEP = "keep"
"""Stands before `common` in a question for keys and values."""


@dataclass(frozen=True)
class ReferencesAtZero(CallPatch):
    """Reference images have time 0 and see only each other."""

    def identity(self) -> Any:
        return [AT_ZERO, 2]

    def kept(self, row: Row) -> Row | None:
        names = [name for name in ("references", "guidance") if name in row.stacked]
        if "references" not in names:
            return None
        return Row({name: row.stacked[name] for name in names}, common=(KEEP, row.common))

    @contextmanager
    def around(self, module: Module) -> Iterator[None]:
        from diffusers.models.transformers import transformer_flux2 as flux2

        network: Any = module
        kinds = (
            (network.transformer_blocks, flux2.Flux2KVAttnProcessor),
            (network.single_transformer_blocks, flux2.Flux2KVParallelSelfAttnProcessor),
        )
        attentions = [(block.attn, processor()) for blocks, processor in kinds for block in blocks]
        before = [attention.processor for attention, _ in attentions]
        setattr(network, AT_ZERO, True)
        for attention, processor in attentions:
            attention.processor = processor
        try:
            yield
        finally:
            delattr(network, AT_ZERO)
            for (attention, _), processor in zip(attentions, before, strict=True):
                attention.processor = processor
