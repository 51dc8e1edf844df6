"""The families of 2026 from files to images: each shipped workflow on a small model in every layout of its files."""

from pathlib import Path

import pytest
import torch
from graphflow_nodes.families import recognise, recognise_vae
from graphflow_nodes.families.known import identify
from graphflow_nodes.files.header import read_header
from PIL import Image
from safetensors.torch import save_file

import graphflow as gf

from . import tiny_modern as t

WORKFLOWS = Path(__file__).parents[3] / "workflows"
FAMILIES = tuple(t.FOLDERS)
SCALER = "ImageScaleToTotalPixels"
LOADERS = {"UNETLoader": 0, "CLIPLoader": 1, "DualCLIPLoader": 1, "QuadrupleCLIPLoader": 1, "VAELoader": 2}
"""Loader -> the output of CheckpointLoaderSimple that stands for it."""


@pytest.fixture(scope="module", params=FAMILIES)
def family(request):
    return request.param


@pytest.fixture(scope="module")
def models(family, tmp_path_factory):
    models = tmp_path_factory.mktemp(family) / "models"
    text = (WORKFLOWS / f"{family}.json").read_text()
    for name in t.FILES:
        if f'"{name}"' in text:
            t.save(models, name)
    (models / "checkpoints").mkdir()
    t.FOLDERS[family](models / "checkpoints" / "folder")
    Image.effect_noise((64, 64), 80).convert("RGB").save(models.parent / "picture.png")
    if family in t.CHECKPOINTS:
        whole = {name: weight.contiguous() for name, weight in t.CHECKPOINTS[family]().items()}
        save_file(whole, models / "checkpoints" / "whole.safetensors")
    return models


@pytest.fixture(autouse=True)
def small_sizes(monkeypatch):
    """In place of those of about a million pixels."""
    monkeypatch.setattr("graphflow_nodes.library.joyimage.SIZES", [(64, 64)])


def workflow(family):
    made = gf.Workflow.load(WORKFLOWS / f"{family}.json")
    small = {"width": 64, "height": 64, "resolution": 64, "steps": 2}
    for key, node in made.to_json().items():
        for name in small.keys() & node["inputs"].keys():
            if not isinstance(node["inputs"][name], list):
                made = made.set(f"{key}.{name}", small[name])
    return unscaled(made)


def unscaled(made):
    """Without the nodes that bring images to about a million pixels."""
    nodes = made.to_json()
    given = {key: node["inputs"]["image"] for key, node in nodes.items() if node["class_type"] == SCALER}
    kept = {key: node for key, node in nodes.items() if key not in given}
    for node in kept.values():
        inputs = node["inputs"].items()
        node["inputs"] = {name: given.get(v[0], v) if isinstance(v, list) else v for name, v in inputs}
    return gf.Workflow.from_json(kept)


def from_checkpoint(made, name):
    nodes = made.to_json()
    places = {}
    for key, node in list(nodes.items()):
        if node["class_type"] in LOADERS:
            places[key] = ["c", LOADERS[node["class_type"]]]
            del nodes[key]
    nodes["c"] = {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": name}}
    for node in nodes.values():
        inputs = node["inputs"].items()
        node["inputs"] = {key: places.get(v[0], v) if isinstance(v, list) else v for key, v in inputs}
    return gf.Workflow.from_json(nodes)


def settings_of(models):
    here = models.parent
    return gf.Settings(models=(models,), output_dir=here, input_dir=here, temp_dir=here, device="cpu")


def image_of(models, made):
    settings = gf.Settings(
        models=(models,), output_dir=models.parent, input_dir=models.parent, temp_dir=models.parent, device="cpu"
    )
    with gf.Engine(settings=settings, cache=gf.Cache(memory=0)) as engine:
        assert engine.validate(made) == []
        (key,) = [key for key, node in made.to_json().items() if node["class_type"] == "VAEDecode"]
        return engine.run(made, targets=[key])[key].outputs["IMAGE"]


def test_files_a_checkpoint_and_a_folder_give_the_same_image(family, models):
    made = workflow(family)
    image = image_of(models, made)
    assert image.shape[:3] == (1, 64, 64) and image.isfinite().all() and image.std() > 0.01
    for path in sorted((models / "checkpoints").iterdir()):
        assert torch.equal(image_of(models, from_checkpoint(made, path.name)), image), path.name


def test_a_file_is_identified_and_its_parts_are_found(family, models):
    (file,) = (models / "diffusion_models").iterdir()
    found = identify(read_header(file))
    assert (found.family, found.supported, found.kind) == (family, True, "diffusion model")
    for path in (models / "text_encoders").iterdir():
        assert identify(read_header(path)).supported, path.name
    for path in (models / "checkpoints").iterdir():
        header = read_header(path)
        assert identify(header).family == family and identify(header).supported
        _, seen = recognise(header)
        assert (
            recognise_vae(header) is not None
            and "denoiser" in seen.parts
            and any(part.startswith("text.") for part in seen.parts)
        )


def test_another_seed_loads_no_text_encoder(family, models):
    made = workflow(family)
    settings = gf.Settings(
        models=(models,), output_dir=models.parent, input_dir=models.parent, temp_dir=models.parent, device="cpu"
    )
    with gf.Engine(settings=settings, cache=gf.Cache()) as engine:
        first = engine.run(made)
        encoded = [event for event in first.models if event.part.startswith("text.")]
        (key,) = [key for key, node in made.to_json().items() if {"seed", "noise_seed"} & node["inputs"].keys()]
        name = "seed" if "seed" in made.to_json()[key]["inputs"] else "noise_seed"
        again = engine.run(made.set(f"{key}.{name}", 2))
    assert encoded and not [event for event in again.models if event.part.startswith("text.")]
