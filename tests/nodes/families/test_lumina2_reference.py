"""Lumina 2 against what ComfyUI 0.3.64 gave for a narrow made-up model in the real key layout
(`tests/data/lumina2`)."""

import hashlib
import json
import math
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

import graphflow as gf

DATA = Path(__file__).parents[2] / "data" / "lumina2"
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
        is_norm = "norm" in name or name.endswith("cap_embedder.0.weight")
        return 1 + 0.05 * noise if is_norm else 0.1 * noise
    if "embed_tokens" in name:
        return 0.5 * noise
    gain = 0.4 if "adaLN" in name else 0.5 if name.endswith(("o_proj.weight", "down_proj.weight", "w2.weight")) else 1.0
    return noise * (gain / math.sqrt(math.prod(shape[1:])))


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    models = tmp_path_factory.mktemp("reference") / "models"
    shapes = json.loads((DATA / "shapes.json").read_text())
    spiece = torch.frombuffer(bytearray((DATA / "spiece_gemma_like.model").read_bytes()), dtype=torch.uint8)
    for folder, name, more in (
        ("diffusion_models", "lumina2_s", {}),
        ("text_encoders", "gemma2_s", {"spiece_model": spiece}),
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
    sampler = nodes[kinds["KSampler"]]["inputs"]
    settings = gf.Settings(models=(models,), device="cpu", output_dir=tmp_path, temp_dir=tmp_path)
    with gf.Engine(settings=settings) as engine:
        sides = {side: sampler[side][0] for side in ("positive", "negative")}
        found = engine.run(gf.Workflow.from_json(nodes), targets=[kinds["KSampler"], *sides.values()])
    latent = found[kinds["KSampler"]].outputs["LATENT"]["samples"]
    assert apart(latent, WANT[f"{name}.latent"]) < GATE
    for side, node in sides.items():
        if f"{name}.{side}" in WANT:  # every second channel of the text
            ((text, _),) = found[node].outputs["CONDITIONING"]
            assert apart(text[..., ::2], WANT[f"{name}.{side}"]) < GATE
