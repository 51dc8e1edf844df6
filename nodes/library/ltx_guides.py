"""LTX-Video and LTX-2: images and videos that lead a video (guides), and what the notes of a LoRA state about them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, NamedTuple

from graphflow import Conditioning, Context, GraphFlowError, Help, Image, Latent, Problem, Range, Settings, Wire, node

from ..devices.environment import numerics
from ..families.kits.ltx_vae import SPACE, TIME
from ..limits import check_latent
from ..model.wires import ModelWire, VaeWire
from .conditioning import Sides
from .ltx import VIDEO_MODELS, Strength, check_vae, encoded, mask_of, video_of

ICLoRAParameters = Annotated[Any, Wire("IC_LORA_PARAMETERS")]
FACTOR = "reference_downscale_factor"
"""The note of a LoRA that states how many times smaller than the video its guides are."""


class GuideParameters(NamedTuple):
    iclora_parameters: ICLoRAParameters


@node("GetICLoRAParameters", category=VIDEO_MODELS, display_name="Get IC-LoRA Parameters", version="1")
def get_ic_lora_parameters(
    context: Context,
    iclora_model: Annotated[ModelWire, Help("of the loader of this LoRA, with no other LoRA behind it")],
) -> GuideParameters:
    """What an IC-LoRA states about its guides, for LTXVAddGuide: `reference_downscale_factor`, how many times smaller
    than the video a guide is.

    It stands in the notes of the LoRA that was put on the model last. Without a LoRA, or without the note, it is 1.
    """
    from ..files.header import read_header
    from ..patches.lora import Lora
    from ..patches.lora_rows import LoraByRows

    files = [patch.file for patch in iclora_model.patches if isinstance(patch, Lora | LoraByRows)]
    if not files:
        context.say(f"The model has no LoRA: {FACTOR} is 1.")
        return GuideParameters({FACTOR: 1})
    stated = read_header(Path(files[-1].path)).metadata.get(FACTOR)
    return GuideParameters({FACTOR: 1 if stated is None else _factor(stated, files[-1].name)})


def _factor(stated: str, name: str) -> int:
    try:
        return max(1, round(float(stated)))
    except (ValueError, OverflowError):
        raise GraphFlowError(
            [
                Problem(
                    "wrong_notes",
                    f"{name} states {FACTOR} = {stated!r}, which is not a number",
                    input="iclora_model",
                    hint="leave this node out: a guide is then as large as the video",
                )
            ]
        ) from None


@node("LTXVAddGuide", category=VIDEO_MODELS, version="1", lane="device", in_turns=True, environment=numerics)
def ltxv_add_guide(
    settings: Settings,
    positive: Conditioning,
    negative: Conditioning,
    vae: VaeWire,
    latent: Latent,
    image: Image,
    frame_idx: Annotated[
        int, Range(-9999, 9999), Help("the frame that the first image stands for; negative numbers count from the end")
    ] = 0,
    strength: Strength = 1.0,
    iclora_parameters: Annotated[
        ICLoRAParameters | None, Help("of GetICLoRAParameters, where a LoRA wants smaller guides")
    ] = None,
) -> Sides:
    """Lead a video by an image at one of its frames, or by several images in a row, 8 n + 1 of them. For LTX-Video
    0.9.5 and later.

    A guide is one or more latent frames behind the video, with the positions of the frames that it stands for; the
    model looks at them. LTXVCropGuides takes all guides off what the sampler gives.
    """
    import torch

    from ..families.ltx import GUIDES, SIDES
    from ..families.ltx.network import positions

    check_vae(vae)
    samples = video_of(latent)
    height, width = samples.shape[-2:]
    frames = samples.shape[2] - _guides(positive, negative, height * width)
    length = (frames - 1) * TIME + 1
    place = frame_idx if frame_idx >= 0 else length + frame_idx
    if not 0 <= place < length:
        raise GraphFlowError(
            [
                Problem(
                    "no_such_frame",
                    f"the video has {length} frames, and frame_idx is {frame_idx}",
                    input="frame_idx",
                    hint=f"use 0 to {length - 1}, or -1 for the last frame",
                )
            ]
        )
    factor = _fitting(iclora_parameters, height, width)
    small = encoded(settings, vae, image[: length - place], width * SPACE // factor, height * SPACE // factor)
    count = small.shape[2]
    guide, sides, kept = (small.new_zeros(1, channels, count, height, width) for channels in (samples.shape[1], 1, 1))
    # A cell of a small guide lies where the block of cells that it stands for begins; the others hold nothing.
    guide[..., ::factor, ::factor], sides[..., ::factor, ::factor] = small, factor
    kept[..., ::factor, ::factor] = 1.0 - strength
    added = positions(count, height, width, is_causal=True)
    added[0] += place
    whole = torch.cat([samples, guide.expand(len(samples), -1, -1, -1, -1)], dim=2)
    before = mask_of(latent, samples)
    mask = torch.cat([before, kept.to(before).expand(len(before), -1, -1, -1, -1)], dim=2)
    check_latent(tuple(whole.shape))

    def led(conditioning: Conditioning) -> Conditioning:
        found = []
        for text, options in conditioning:
            guides = torch.cat([*options.get(GUIDES, ()), added], dim=1)[None]
            known = options.get(SIDES)
            if known is None:
                known = guides.new_ones(1, 1, guides.shape[-1] - added.shape[-1])
            of_each = {SIDES: torch.cat([known, sides.flatten(2)], dim=2)} if SIDES in options or factor > 1 else {}
            found.append((text, {**options, GUIDES: guides, **of_each}))
        return found

    return Sides(led(positive), led(negative), {**latent, "samples": whole, "noise_mask": mask})


def _fitting(parameters: Mapping[str, Any] | None, height: int, width: int) -> int:
    """How many times smaller than the video a guide is. Raises a Problem where the video cannot be divided so."""
    factor = max(1, int((parameters or {}).get(FACTOR, 1)))
    if height % factor or width % factor:
        grid = SPACE * factor
        raise GraphFlowError(
            [
                Problem(
                    "wrong_size",
                    f"the video has {width * SPACE} x {height * SPACE} pixels, and guides of this LoRA are {factor} "
                    f"times smaller, in cells of {SPACE}",
                    input="latent",
                    hint=f"use a width and a height that {grid} divides",
                )
            ]
        )
    return factor


@node("LTXVCropGuides", category=VIDEO_MODELS, version="1")
def ltxv_crop_guides(positive: Conditioning, negative: Conditioning, latent: Latent) -> Sides:
    """Take the guides of LTXVAddGuide off a latent and its conditionings: before it is decoded, or sampled again
    without them."""
    from ..families.ltx import GUIDES, SIDES

    samples = video_of(latent)
    count = _guides(positive, negative, samples.shape[-2] * samples.shape[-1])
    if not count:
        return Sides(positive, negative, latent)
    cropped = {**latent, "samples": samples[:, :, :-count], "noise_mask": mask_of(latent, samples)[:, :, :-count]}

    def free(conditioning: Conditioning) -> Conditioning:
        return [
            (text, {name: one for name, one in options.items() if name not in (GUIDES, SIDES)})
            for text, options in conditioning
        ]

    return Sides(free(positive), free(negative), cropped)


def _guides(positive: Conditioning, negative: Conditioning, cells: int) -> int:
    """Latent frames of the guides that both conditionings have. Raises a Problem where they have others."""
    from ..families.ltx import GUIDES

    found = {options[GUIDES].shape[-1] if GUIDES in options else 0 for _, options in (*positive, *negative)}
    if len(found) > 1:
        raise GraphFlowError(
            [
                Problem(
                    "unlike_guides",
                    "the conditionings have different guides",
                    input="negative",
                    hint="take positive, negative and latent from the same LTXVAddGuide",
                )
            ]
        )
    return next(iter(found), 0) // cells
