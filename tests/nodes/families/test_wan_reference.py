"""Wan 2.1 against what ComfyUI 0.3.64 gave for a narrow made-up model in the real key layout (`tests/data/wan`)."""

import hashlib
import json
import math
from pathlib import Path

import pytest
import torch
from graphflow_nodes.devices.use import open_device
from graphflow_nodes.families.opened import open_text_encoders
from graphflow_nodes.families.text import encode_prompt
from graphflow_nodes.model.entry import Entry
from safetensors.torch import load_file, save_file

import graphflow as gf

from . import asking, tiny_wan

DATA = Path(__file__).parents[2] / "data" / "wan"
WORKFLOWS = json.loads((DATA / "workflows.json").read_text())
WANT = load_file(DATA / "latents.safetensors")
GATE = 1e-4
"""Largest difference, in standard deviations of the reference."""


def apart(got, want):
    return float((got - want).abs().max() / want.std())


def drawn(name, shape, salt):
    """A weight as the reference drew it: from its name, with damped branches, so that latents stay near unit
    variance."""
    seed = int.from_bytes(hashlib.sha256((salt + name).encode()).digest()[:7], "big")
    noise = torch.randn(shape, generator=torch.Generator().manual_seed(seed))
    if len(shape) == 1:
        if name.endswith("bias"):
            return 0.02 * noise
        return 1 + 0.05 * noise if "norm" in name else 0.1 * noise
    if name.endswith("modulation"):
        return 0.1 * noise
    if "relative_attention_bias" in name or name == "shared.weight":
        return 0.5 * noise
    gains = {"SelfAttention.q": 0.35, "time_projection": 0.4, "SelfAttention.o": 0.5, ".wo.": 0.5, "ffn.2.": 0.5}
    gain = next((gain for word, gain in gains.items() if word in name), 1.0)
    return noise * (gain / math.sqrt(math.prod(shape[1:])))


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    models = tmp_path_factory.mktemp("reference") / "models"
    shapes = json.loads((DATA / "shapes.json").read_text())
    for folder, name, more in (
        ("diffusion_models", "wan_t2v_s", {}),
        ("text_encoders", "umt5xxl_s", {"spiece_model": tiny_wan.spiece()}),
    ):
        file = f"{folder}/{name}.safetensors"
        weights = {key: drawn(key, shape, f"{file}:").half() for key, shape in shapes[name].items()}
        (models / folder).mkdir(parents=True)
        save_file({**weights, **more}, models / file)
    return models


@pytest.mark.parametrize("name", WORKFLOWS)
def test_a_latent_is_the_references(name, models, tmp_path):
    nodes = WORKFLOWS[name]
    kinds = {node["class_type"]: key for key, node in nodes.items()}
    settings = gf.Settings(models=(models,), device="cpu", output_dir=tmp_path, temp_dir=tmp_path)
    with gf.Engine(settings=settings) as engine:
        found = engine.run(gf.Workflow.from_json(nodes), targets=[kinds["KSampler"]])
    latent = found[kinds["KSampler"]].outputs["LATENT"]["samples"]
    assert apart(latent, WANT[f"{name}.latent"]) < GATE


def test_texts_are_encoded_as_the_reference_does(models):
    """Every 32nd row and 4th column: weights act on tokens, pads are zeros, names of embeddings are text."""
    with gf.Engine(settings=gf.Settings(models=(models,), device="cpu")) as engine:
        settings = engine.settings
        clip = open_text_encoders([models / "text_encoders" / "umt5xxl_s.safetensors"], settings, "wan")
        for text in json.loads((DATA / "texts.json").read_text()):
            (entry,) = encode_prompt(open_device(settings), clip, text["text"], {})
            assert entry.text.shape == (512, 64)
            assert apart(entry.text[None, ::32, ::4], WANT[text["key"]]) < GATE, text["text"]
        (entry,) = encode_prompt(open_device(settings), clip, "a red fox in the snow, morning light", {})
        assert apart(entry.text[:16, ::4], WANT["context"][1]) < GATE
        assert not entry.text[16:].any()


def test_the_network_is_asked_as_the_reference_asks_it(models):
    """x in the model's unit, time 1000 at the level 1: the velocity is the answer."""
    model = asking.model_in(models / "diffusion_models" / "wan_t2v_s.safetensors")
    assert (model.prediction.sigma_max, model.prediction.identity()) == (1.0, ["Flow", 8.0, 1000.0])
    clean = torch.zeros(16, 1, 4, 4)
    row = model.family.net.row(
        model.config,
        asking.Ask(clean, 0.5, 0.0, 0.5, Entry()),
        model.family.net.prepare(model.config, Entry(text=torch.zeros(512, 64)), tuple(clean.shape)),
    )
    assert float(row.stacked["time"]) == 500.0 and row.stacked["x"].shape == clean.shape
