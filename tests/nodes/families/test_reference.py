"""The made-up Stable Diffusion 1.5 of benchmarks/parity, the parts of it that take seconds: the text encoder and the
VAE in their true size against what ComfyUI gave for them. `python -m benchmarks.parity` compares the whole."""

import importlib.util
import json
from pathlib import Path

import pytest
from graphflow_nodes.devices.use import open_device
from graphflow_nodes.devices.vae import decode, encode
from graphflow_nodes.families.opened import open_text_encoders, open_vae
from graphflow_nodes.families.text import encode_prompt
from safetensors.torch import load_file, save_file

import graphflow as gf

PARITY = Path(__file__).parents[3] / "benchmarks" / "parity"
WANT = load_file(PARITY / "steps.safetensors")


def apart(got, want):
    """The largest difference, in standard deviations of the reference."""
    return float((got - want).abs().max() / want.std())


@pytest.fixture(scope="module")
def parts(tmp_path_factory):
    """The weights of these parts alone, drawn by name as `make_checkpoint.py` does."""
    spec = importlib.util.spec_from_file_location("make_checkpoint", PARITY / "make_checkpoint.py")
    maker = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(maker)
    shapes = json.loads((PARITY / "shapes.json").read_text())
    folder = tmp_path_factory.mktemp("reference")
    for file, prefix in (("clip", "cond_stage_model.transformer."), ("vae", "first_stage_model.")):
        parts = {name: maker.draw(name, shape) for name, shape in shapes.items() if name.startswith(prefix)}
        save_file({name.removeprefix(prefix): one for name, one in parts.items()}, folder / f"{file}.safetensors")
    with gf.Engine(settings=gf.Settings(device="cpu")) as engine:
        settings = engine.settings
        clip = open_text_encoders([folder / "clip.safetensors"], settings)
        return open_device(settings), clip, open_vae(folder / "vae.safetensors", settings)


def test_text_is_encoded_as_the_reference_does(parts):
    device, clip, _ = parts
    nodes = json.loads((PARITY / "workflow" / "euler__normal.json").read_text())
    (positive,), (negative,) = (encode_prompt(device, clip, nodes[key]["inputs"]["text"], {}) for key in ("6", "7"))
    assert apart(positive.text[None], WANT["cond_positive"]) < 1e-4
    assert apart(negative.text[None], WANT["cond_negative"]) < 1e-4
    assert apart(positive.pooled[None], WANT["pooled_positive"]) < 1e-4


def test_images_are_decoded_and_encoded_as_the_reference_does(parts):
    device, _, vae = parts
    assert apart(decode(device, vae, WANT["latent_euler_normal"]), WANT["image_euler_normal"]) < 1e-4
    assert apart(encode(device, vae, WANT["image_euler_normal"]), WANT["vae_encode_of_image"]) < 1e-4
