"""The made-up Stable Diffusion 1.5 of benchmarks/parity, the parts of it that take seconds: the text encoder and the VAE in
their true size against what the field's reference engine gave for them. `python -m benchmarks.parity` compares the whole."""

import importlib.util
import json
from pathlib import Path

import pytest
from graphflow_nodes.devices.pool import Pool
from graphflow_nodes.families.handles import Clip, Source, Vae
from graphflow_nodes.families.text import encode_text
from graphflow_nodes.families.vae import decode, encode
from safetensors.torch import load_file, save_file

PARITY = Path(__file__).parents[3] / "benchmarks" / "parity"
WANT = load_file(PARITY / "steps.safetensors")


def apart(got, want):
    """The largest difference, in standard deviations of the reference."""
    return float((got - want).abs().max() / want.std())


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """The weights of these parts alone, drawn by name as `make_checkpoint.py` does."""
    spec = importlib.util.spec_from_file_location("make_checkpoint", PARITY / "make_checkpoint.py")
    maker = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(maker)
    shapes = json.loads((PARITY / "shapes.json").read_text())
    path = tmp_path_factory.mktemp("reference") / "parts.safetensors"
    parts = ("cond_stage_model.", "first_stage_model.")
    save_file({name: maker.draw(name, shape) for name, shape in shapes.items() if name.startswith(parts)}, path)
    return Source(str(path), "ldm", "made-up parts")


def test_text_is_encoded_as_the_reference_does(source):
    nodes = json.loads((PARITY / "workflow" / "euler__normal.json").read_text())
    positive, pooled = encode_text(Pool(), Clip(source), nodes["6"]["inputs"]["text"])
    negative, _ = encode_text(Pool(), Clip(source), nodes["7"]["inputs"]["text"])
    assert apart(positive, WANT["cond_positive"]) < 1e-4
    assert apart(negative, WANT["cond_negative"]) < 1e-4
    assert apart(pooled, WANT["pooled_positive"]) < 1e-4


def test_pictures_are_decoded_and_encoded_as_the_reference_does(source):
    pool = Pool()
    assert apart(decode(pool, Vae(source), WANT["latent_euler_normal"]), WANT["image_euler_normal"]) < 1e-4
    assert apart(encode(pool, Vae(source), WANT["image_euler_normal"]), WANT["vae_encode_of_image"]) < 1e-4
