"""A LATENT as a model takes it: its channels, cells and axes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from graphflow import GraphFlowError, Problem

from ..model.handles import Model
from ..model.latent import LatentFormat

__all__ = ["NOTES", "fitted"]

FACTOR, TIME_FACTOR = "downscale_ratio_spacial", "downscale_ratio_temporal"
NOTES = frozenset({FACTOR, TIME_FACTOR})
"""The notes of an empty latent about itself: the factors of the model that it was made for (ComfyUI's names). A sampler
takes them off."""


def fitted(latent: Mapping[str, Any], model: Model, input: str = "latent_image") -> Tensor:
    """The samples, VAE unit, float32, in the shape that the model takes.

    An empty latent (all zeros) is brought to the model's channels, cells and axes: it says no more than how large the
    image is to be. Raises a Problem that names both for any other latent of another shape.
    """
    samples: Tensor = latent["samples"].float()
    format = model.latent
    if not samples.any():
        return samples.new_zeros(_shape(samples, latent, format))
    if samples.shape[1] != format.channels or samples.dim() != 2 + format.axes:
        raise GraphFlowError(
            [
                Problem(
                    "wrong_latent",
                    f"the latent is {_in_words(samples.shape[1], samples.dim() - 2)}, "
                    f"{model.family.name} takes {_in_words(format.channels, format.axes)}",
                    input=input,
                    hint="decode it with the VAE of the model that made it and encode it with this model's, "
                    "or start from an empty latent",
                )
            ]
        )
    sides = samples.shape[-2:]
    if any(side % format.multiple for side in sides):
        pixels = format.multiple * format.factor
        raise GraphFlowError(
            [
                Problem(
                    "wrong_size",
                    f"the latent has {sides[1]} x {sides[0]} cells, {model.family.name} takes multiples of "
                    f"{format.multiple}",
                    input=input,
                    hint=f"use a width and a height that are multiples of {pixels}",
                )
            ]
        )
    return samples


def _shape(samples: Tensor, latent: Mapping[str, Any], format: LatentFormat) -> tuple[int, ...]:
    given = int(latent.get(FACTOR) or format.factor)
    height, width = (max(1, round(side * given / format.factor)) for side in samples.shape[-2:])
    height, width = (-(-side // format.multiple) * format.multiple for side in (height, width))
    if format.axes == 2:
        return (len(samples), format.channels, height, width)
    frames = samples.shape[2] if samples.dim() == 5 else 1
    in_time = int(latent.get(TIME_FACTOR) or format.time_factor)
    if in_time != format.time_factor:
        frames = ((frames - 1) * in_time) // format.time_factor + 1
    return (len(samples), format.channels, frames, height, width)


def _in_words(channels: int, axes: int) -> str:
    return f"{channels} channels of {'frames of ' if axes == 3 else ''}rows and columns"
