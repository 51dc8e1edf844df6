"""PhotoMaker (arXiv 2312.04461), version 1: who is on an image, put into one word of a prompt of SDXL.

A file has `id_encoder.` (CLIP-L's image encoder, fine-tuned, with a second projection and the fuse module) and
`lora_weights.` (a LoRA for the U-Net, which is not read here). Version 2 sees faces by InsightFace, and does not run.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from graphflow import Problem

from ...files.header import Header
from ...model.family import Family, Found, Part
from ...model.handles import Clip, PhotoMaker
from ..clip_vision import transformers_config

__all__ = ["PHOTOMAKER", "TRIGGER", "misfit", "place_of_trigger"]

TRIGGER = "photomaker"
"""The word of a prompt that stands behind the one that the image is put into."""
PREFIXES = ("id_encoder.", "")
SECOND, NORM, FACES = "visual_projection_2.weight", "fuse_module.layer_norm.weight", "qformer_perceiver."


def place_of_trigger(prompt: str) -> int | None:
    """The number of words before the trigger; None where the prompt does not have it. Words stand between blanks."""
    words = prompt.split()
    return words.index(TRIGGER) if TRIGGER in words else None


def misfit(photomaker: PhotoMaker, clip: Clip) -> Problem | None:
    """The problem where the text encoders are not CLIP-L and CLIP-G, or give another width than the file takes."""
    gives, takes = clip.family.text_width(clip.config), photomaker.config.text
    names = {part for part, _ in clip.sources if part.startswith("text.")}
    if gives == takes and names == {"text.l", "text.g"}:
        return None
    name = Path(photomaker.source("identity").path).name
    wide = f", {gives} wide" if gives is not None else ""
    return Problem(
        "wrong_encoder",
        f"{name} takes prompts of CLIP-L and CLIP-G, {takes} wide; this is encoded as for {clip.family.title}{wide}",
        input="clip",
        hint="PhotoMaker was made for Stable Diffusion XL: link the text encoders of such a checkpoint",
    )


def _recognise(header: Header) -> Found | None:
    for prefix in PREFIXES:
        shapes: Mapping[str, tuple[int, ...]] = {
            name.removeprefix(prefix): info.shape for name, info in header.tensors.items() if name.startswith(prefix)
        }
        if SECOND not in shapes or any(name.startswith(FACES) for name in shapes):
            continue
        config = transformers_config(shapes) | {"second": shapes[SECOND][0], "text": shapes[NORM][0]}
        if config.kind == "transformers" and config.projection_dim + config.second == config.text:
            return Found(config, {"identity": ("own", prefix)})
    return None


PHOTOMAKER = Family(
    name="photomaker",
    version="1",
    title="PhotoMaker",
    recognise=_recognise,
    parts={
        "identity": Part(
            build=f"{__name__}.network:build",
            layouts={"own": lambda config: {"": "", "vision": ""}},
            title="image encoder and fuse module",
            dtype="float32",  # as the text encoders whose state it replaces
            unused=("*.position_ids", "logit_scale"),
        )
    },
    network=f"{__name__}.network",
)
