r"""Rotary positions that are scaled and shifted along each axis: ScaleROPE.

.. math:: p' = p \cdot s + d

p counts the tokens along an axis from 0. The rotations are those of the network, taken at p'. ChronoEdit, which edits
an image as a video of two frames, sets them 7 apart.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from graphflow import GraphFlowError, Problem

from ..model.handles import Model
from ..model.patch import CallPatch

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module

__all__ = ["ScaledPositions", "with_scaled_positions"]

Change = tuple[float, float]
"""Factor and shift."""


@dataclass(frozen=True)
class ScaledPositions(CallPatch):
    """Changes of the axes frames, rows, columns of the module `port`, which has the form of diffusers'
    WanRotaryPosEmbed."""

    port: str
    axes: tuple[Change, Change, Change]

    def identity(self) -> Any:
        return ["scaled_positions", self.port, [list(axis) for axis in self.axes]]

    @contextmanager
    def around(self, module: Module) -> Iterator[None]:
        rope: Any = module.get_submodule(self.port)
        rope.forward = lambda hidden_states: self._rotations(rope, hidden_states)  # hides the method of its class
        try:
            yield
        finally:
            del rope.forward

    def _rotations(self, rope: Any, hidden_states: Tensor) -> tuple[Tensor, Tensor]:
        """Cosines and sines, float32 [1, tokens, 1, D], of a latent [N, C, frames, h, w]."""
        import torch
        from diffusers.models.embeddings import get_1d_rotary_pos_embed

        counts = [side // patch for side, patch in zip(hidden_states.shape[-3:], rope.patch_size, strict=True)]
        widths = (rope.t_dim, rope.h_dim, rope.w_dim)
        found: tuple[list[Tensor], list[Tensor]] = ([], [])
        for axis, (count, width, (factor, shift)) in enumerate(zip(counts, widths, self.axes, strict=True)):
            places: Any = torch.arange(count, dtype=torch.float64) * factor + shift
            both = get_1d_rotary_pos_embed(
                width, places, use_real=True, repeat_interleave_real=True, freqs_dtype=torch.float64
            )
            shape = [1, 1, 1, width]
            shape[axis] = count
            for parts, one in zip(found, both, strict=True):
                parts.append(one.view(shape).expand(*counts, width))
        cosines, sines = (torch.cat(parts, -1).flatten(0, 2)[None, :, None].to(hidden_states.device) for parts in found)
        return cosines, sines


def with_scaled_positions(model: Model, axes: tuple[Change, Change, Change]) -> Model:
    """The model with its positions changed; a change before it is replaced. Raises a Problem where the family has none
    that can be."""
    port = model.family.ports.positions
    if not port:
        raise GraphFlowError(
            [
                Problem(
                    "no_port",
                    f"ScaleROPE changes the rotary positions of Wan, and this is {model.family.title}",
                    input="model",
                    hint="leave the node out, or use a model of Wan",
                )
            ]
        )
    others = tuple(patch for patch in model.patches if not isinstance(patch, ScaledPositions))
    changed = () if all(axis == (1.0, 0.0) for axis in axes) else (ScaledPositions(port, axes),)
    return replace(model, patches=(*others, *changed))
