"""What the workflows of the model of scenes (`workflows/scenes*.json`) need, as files: images, captions, architecture.

    python -m training.scene_data output/model

In the folder: `input/scenes`, images of one and of two things with all their captions (`metadata.jsonl`), as many
captions of the one as of the other, and none of a scene that is held out; `input/drawings`, images for the autoencoder,
half of them on any colour, so that it learns colours, not ten of them; `input/outlines`, the first of the scenes, for
the ControlNet; `input/sunsets`, scenes before an evening sky, for the LoRA; `models/checkpoints/scenes`, the configs of
the networks, without weights. An image is a function of its number, so more images leave those that are there as they
are.
"""

from __future__ import annotations

import argparse
import json
import random
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from transformers import CLIPTokenizer

from .data import evening_sky
from .modules import SHIPPED, noise_schedule
from .scene_model import new_text_encoder, new_unet, new_vae
from .scenes import BACKGROUNDS, SIZE, THINGS, Scene, captions, draw, is_held_out, load_things, singles

__all__ = ["scenes_of", "write_architecture", "write_drawings", "write_scenes"]

IMAGES, DRAWINGS, OUTLINES, SUNSETS = 9_000, 2_000, 1_500, 900
SHARES = {1: 5, 2: 4}
"""Number of things -> images, so that both have the same number of captions (four and five an image)."""
INDEX = {
    "_class_name": "StableDiffusionPipeline",
    "unet": ["diffusers", "UNet2DConditionModel"],
    "vae": ["diffusers", "AutoencoderKL"],
    "text_encoder": ["transformers", "CLIPTextModel"],
    "scheduler": ["diffusers", "DDPMScheduler"],
}


def scenes_of(count: int) -> list[Scene]:
    """What the images show: of each nine, five show one thing and four show two."""
    alone = [scene for scene in singles() if not is_held_out(scene)]
    random.Random(1).shuffle(alone)
    rng, found = random.Random(2), []
    for number in range(count):
        turn, at = divmod(number, sum(SHARES.values()))
        if at < SHARES[1]:
            found.append(alone[(turn * SHARES[1] + at) % len(alone)])
            continue
        while is_held_out(scene := Scene(tuple(rng.sample(list(THINGS), 2)), rng.choice(list(BACKGROUNDS)))):
            pass
        found.append(scene)
    return found


def write_scenes(
    folder: Path, count: int, purpose: str = "scene", each: bool = True, behind: Image.Image | None = None
) -> None:
    """Images with all their captions, or with one of them; sizes and places are functions of purpose and number."""
    folder.mkdir(parents=True, exist_ok=True)
    things, lines = load_things(), []
    for number, scene in enumerate(scenes_of(count)):
        name, texts = f"{number:05}.png", captions(scene)
        _save(folder / name, draw(things, scene, random.Random(f"{purpose} {number}"), behind=behind))
        lines.append(json.dumps({"file_name": name, "text": texts if each else texts[number % 4]}))
    (folder / "metadata.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")


def write_drawings(folder: Path, count: int) -> None:
    """Images for the autoencoder, which sees no captions: also scenes that are held out."""
    folder.mkdir(parents=True, exist_ok=True)
    things = load_things()
    for number in range(count):
        rng = random.Random(f"drawing {number}")
        shown = tuple(rng.sample(list(THINGS), 2 if rng.random() < 0.6 else 1))
        colour = tuple(rng.randrange(256) for _ in range(3)) if rng.random() < 0.5 else None
        _save(folder / f"{number:05}.png", draw(things, Scene(shown, rng.choice(list(BACKGROUNDS))), rng, colour))


def write_architecture(folder: Path) -> None:
    """A diffusers folder without weights and without a vocabulary, which is learnt from the captions."""
    folder.mkdir(parents=True, exist_ok=True)
    with torch.device("meta"):
        text = new_text_encoder(CLIPTokenizer.from_pretrained(SHIPPED / "tokenizer")).config
        new_vae().save_config(folder / "vae")
        new_unet().save_config(folder / "unet")
    (folder / "text_encoder").mkdir(exist_ok=True)
    stated = {**text.to_dict(), "architectures": ["CLIPTextModel"]}
    (folder / "text_encoder" / "config.json").write_text(json.dumps(stated, indent=2), encoding="utf-8")
    noise_schedule().save_config(folder / "scheduler")
    (folder / "model_index.json").write_text(json.dumps(INDEX, indent=2), encoding="utf-8")


def _save(path: Path, pixels: np.ndarray) -> None:
    if not path.exists():
        Image.fromarray(pixels).save(path, compress_level=6)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--images", type=int, default=IMAGES, help="of scenes with captions")
    parser.add_argument("--drawings", type=int, default=DRAWINGS, help="images for the autoencoder")
    options = parser.parse_args(arguments)
    inputs = options.folder / "input"
    write_scenes(inputs / "scenes", options.images)
    write_drawings(inputs / "drawings", options.drawings)
    write_scenes(inputs / "outlines", min(options.images, OUTLINES), each=False)
    write_scenes(inputs / "sunsets", min(options.images, SUNSETS), "sunset", each=False, behind=evening_sky(SIZE))
    write_architecture(options.folder / "models" / "checkpoints" / "scenes")
    print(
        f"{options.images} images with captions, {options.drawings} drawings and the architecture in {options.folder}"
    )


if __name__ == "__main__":
    main()
