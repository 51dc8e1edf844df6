"""The modules of the model of scenes (128 x 128 pixels): Stable Diffusion 1.x, small; at most 20 MB in float16."""

from __future__ import annotations

import random
from pathlib import Path

from diffusers import AutoencoderKL, UNet2DConditionModel
from transformers import CLIPTextModel, CLIPTokenizer

from . import modules
from .scenes import BACKGROUNDS, THINGS, Scene, captions

__all__ = ["new_text_encoder", "new_unet", "new_vae", "the_tokenizer"]

WIDTH = 128
"""Of the text encoder."""


def new_vae() -> AutoencoderKL:
    return modules.new_vae(side=128)


def new_unet() -> UNet2DConditionModel:
    """Attention at 8 x 8 places and in the middle, with four heads: a transformer takes as long as two convolutions,
    and at 16 x 16 a place shows 8 pixels only."""
    return UNet2DConditionModel(
        sample_size=16,
        in_channels=4,
        out_channels=4,
        layers_per_block=1,
        block_out_channels=(64, 128, 160),
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=WIDTH,
        attention_head_dim=4,
        norm_num_groups=8,
    )


def new_text_encoder(tokenizer: CLIPTokenizer) -> CLIPTextModel:
    return modules.new_text_encoder(tokenizer, width=WIDTH, layers=3, feed_forward=3 * WIDTH)


def the_tokenizer(folder: Path) -> CLIPTokenizer:
    """The vocabulary in a folder; it is learnt from the captions where there is none."""
    if not (folder / "vocab.json").exists():
        modules.learn_tokenizer(folder, _texts(), size=945)
    return CLIPTokenizer.from_pretrained(folder)


def _texts() -> list[str]:
    rng = random.Random(0)
    things, backgrounds = list(THINGS), list(BACKGROUNDS)
    scenes = [Scene((thing,), background) for thing in things for background in backgrounds]
    scenes += [Scene(tuple(rng.sample(things, 2)), rng.choice(backgrounds)) for _ in range(4000)]
    return [text for scene in scenes for text in captions(scene)]
