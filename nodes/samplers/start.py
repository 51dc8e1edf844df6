"""A LATENT as a model takes it: its channels, cells and axes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from graphflow import GraphFlowError, Problem

from ..model.family import part_config
from ..model.handles import Model
from ..model.latent import LatentFormat
from ..model.pair import AUDIO, Pair

__all__ = ["NOTES", "fitted", "packed", "unpacked"]

FACTOR, TIME_FACTOR = "downscale_ratio_spacial", "downscale_ratio_temporal"
NOTES = frozenset({FACTOR, TIME_FACTOR})
"""The notes of an empty latent about itself: the factors of the model that it was made for (ComfyUI's names). A sampler
takes them off."""


def packed(latent: Mapping[str, Any], model: Model, input: str = "latent_image") -> tuple[Tensor, Pair | None]:
    """What a sampler works on: `fitted`, or, of a latent with sound, both parts as one tensor, and their shapes.

    Raises a Problem for sound where the model makes none, and where there are not as many sounds as videos.
    """
    sound = latent.get(AUDIO)
    if sound is None:
        return fitted(latent, model, input), None
    video = fitted({key: value for key, value in latent.items() if key != AUDIO}, model, input)
    samples: Tensor = sound["samples"].float()
    width = part_config(model.config, "denoiser").get("audio_in_channels")
    if width is None or samples.dim() != 4 or samples.shape[1] * samples.shape[3] != width:
        hint = "use LTX-2, and the audio VAE of its checkpoint" if width is None else "use the audio VAE of the model"
        takes = "no sound" if width is None else f"frames of {width} numbers"
        message = f"the latent has a sound of the shape {list(samples.shape)}; {model.family.title} takes {takes}"
        raise GraphFlowError([Problem("wrong_latent", message, input=input, hint=hint)])
    if len(samples) != len(video):
        message = f"the latent has {len(video)} videos and {len(samples)} sounds"
        hint = "set the same batch_size in EmptyLTXVLatentVideo and LTXVEmptyLatentAudio"
        raise GraphFlowError([Problem("uneven_batch", message, input=input, hint=hint)])
    pair = Pair(tuple(video.shape[1:]), tuple(samples.shape[1:]))
    return pair.packed(video, samples), pair


def unpacked(x: Tensor, latent: Mapping[str, Any], pair: Pair | None) -> dict[str, Any]:
    """The samples of a LATENT, and its sound, where it has one."""
    if pair is None:
        return {"samples": x}
    video, sound = pair.parts(x)
    return {"samples": video.contiguous(), AUDIO: {**latent[AUDIO], "samples": sound.contiguous()}}


def fitted(latent: Mapping[str, Any], model: Model, input: str = "latent_image") -> Tensor:
    """The samples, VAE unit, float32, in the shape that the model takes.

    An empty latent (all zeros) is brought to the model's channels, cells and axes: it says no more than how large the
    image is to be. Raises a Problem that names both for any other latent of another shape.
    """
    if AUDIO in latent:
        message = "the latent has a sound beside its video, which this node does not know"
        hint = "take it apart with LTXVSeparateAVLatent first"
        raise GraphFlowError([Problem("not_for_sound", message, input=input, hint=hint)])
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
