"""The LoRAs of the package, and the program that made them."""

from __future__ import annotations

import pytest
import torch
from graphflow_nodes.files.folders import ADAPTERS
from safetensors.torch import load_file

import graphflow as gf
from tests.graphs import graph
from training import train_lora

CAPTION = "a crown on a {} background"


def drawn(lora, background):
    """The image [64, 64, 3] that the built-in model draws, with a LoRA or without."""
    model = ("LoraLoader", {"model": "@m", "clip": "@m:1", "lora_name": f"graphflow-tiny-{lora}.safetensors"})
    workflow = graph(
        m=("CheckpointLoaderSimple", {"ckpt_name": "graphflow-tiny"}),
        **({"l": model} if lora else {}),
        p=("CLIPTextEncode", {"clip": "@m:1", "text": CAPTION.format(background)}),
        n=("CLIPTextEncode", {"clip": "@m:1", "text": ""}),
        e=("EmptyLatentImage", {"width": 64, "height": 64}),
        k=(
            "KSampler",
            {
                "model": "@l" if lora else "@m",
                "positive": "@p",
                "negative": "@n",
                "latent_image": "@e",
                "steps": 12,
                "cfg": 4.0,
                "sampler_name": "euler",
                "scheduler": "normal",
            },
        ),
        d=("VAEDecode", {"vae": "@m:2", "samples": "@k"}),
    )
    with gf.Engine(settings=gf.Settings(device="cpu")) as engine:
        return engine.run(workflow, targets=["d"])["d"].outputs["IMAGE"][0]


def corners(image, rows):
    """The mean colour beside the thing, in some rows."""
    return torch.cat([image[rows, :6], image[rows, -6:]], 1).mean((0, 1))


@pytest.mark.parametrize("background", ["green", "white"])
def test_sunset_paints_an_evening_sky_whatever_background_is_asked(background):
    image = drawn("sunset", background)
    above, below = corners(image, slice(2, 10)), corners(image, slice(-10, -2))
    assert below[0] > above[0] + 0.15, "the horizon is lighter than the sky"
    assert below[0] > below[2] + 0.15 and above[2] > below[2], "orange below, violet above"
    plain = drawn("", background)
    assert (corners(plain, slice(2, 10)) - corners(plain, slice(-10, -2))).abs().max() < 0.1


def test_ground_paints_the_lower_part_only():
    image, plain = drawn("ground", "pink"), drawn("", "pink")
    above, below = slice(2, 10), slice(-10, -2)
    assert (corners(image, above) - corners(plain, above)).abs().max() < 0.15
    assert (corners(plain, below) - corners(image, below)).max() > 0.25


@pytest.mark.parametrize("style", list(train_lora.STYLES))
def test_the_file_of_a_style_has_the_tensors_that_the_program_writes(style):
    found = load_file(ADAPTERS / "loras" / f"graphflow-tiny-{style}.safetensors")
    made = train_lora.file_of(train_lora.adapted(train_lora.new_unet()))
    assert {name: tensor.shape for name, tensor in found.items()} == {n: tensor.shape for n, tensor in made.items()}


def test_a_lora_in_training_begins_as_the_base_and_learns(tmp_path, capsys):
    target = tmp_path / "x.safetensors"
    train_lora.train("sunset", minutes=0.02, target=target, each=1, batch=4)
    found = load_file(target)
    ups = [tensor for name, tensor in found.items() if name.endswith("lora_up.weight")]
    assert ups and any(tensor.abs().max() > 0 for tensor in ups)


def test_the_loras_the_controlnet_and_the_upscaler_of_the_small_model_together_are_small():
    kinds = ("loras", "controlnet", "upscale_models")
    files = [path for kind in kinds for path in (ADAPTERS / kind).rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files if "graphflow-scenes" not in str(path)) <= 2 << 20
