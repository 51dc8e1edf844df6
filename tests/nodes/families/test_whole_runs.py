"""Shipped workflows from a checkpoint with everything in it and from a diffusers folder; from single files:
tests/workflows."""

import pytest
import torch
from graphflow_nodes.families import recognise, recognise_vae
from graphflow_nodes.families.known import identify
from graphflow_nodes.files.header import read_header
from safetensors.torch import save_file

import graphflow as gf

from .test_modern_runs import LOADERS, WORKFLOWS
from .tiny_whole import WHOLE


@pytest.fixture(scope="module", params=WHOLE)
def family(request):
    return request.param


@pytest.fixture(scope="module")
def models(family, tmp_path_factory):
    models, whole = tmp_path_factory.mktemp(family) / "models", WHOLE[family]
    for write in whole.files.values():
        write(models)
    (models / "checkpoints").mkdir(parents=True, exist_ok=True)
    weights = {name: weight.contiguous() for name, weight in whole.checkpoint().items()}
    save_file(weights, models / "checkpoints" / "whole.safetensors")
    whole.folder(models / "checkpoints" / "folder")
    (models / "diffusion_models").mkdir(exist_ok=True)
    (models / "diffusion_models" / "folder").symlink_to(models / "checkpoints" / "folder")
    return models


def workflow(family):
    """The shipped workflow with a short prompt, one step and a small image."""
    nodes = gf.Workflow.load(WORKFLOWS / f"{WHOLE[family].workflow}.json").to_json()
    small = {"width": 64, "height": 64, "steps": 1, "text": "a fox"}
    for node in nodes.values():
        if node["class_type"] not in ("CreateBoundingBoxes", "Ideogram4Scheduler"):
            stated = {name: value for name, value in node["inputs"].items() if not isinstance(value, list)}
            node["inputs"] |= {name: small[name] for name in small.keys() & stated.keys()}
    return gf.Workflow.from_json(nodes)


def from_whole(family, name):
    """The workflow with its parts from a checkpoint or a folder."""
    nodes, places = workflow(family).to_json(), {}
    loaders = [key for key, node in nodes.items() if node["class_type"] in LOADERS]
    for key in loaders:
        if family != "ideogram4" or name != "folder" or nodes[key]["class_type"] == "CLIPLoader":
            places[key] = ["c", LOADERS[nodes[key]["class_type"]]]
    if family == "ideogram4":  # a second denoiser has a file of its own; the VAE of a folder is not taken
        names = {"1": "transformer", "2": "unconditional_transformer"}
        for key in names if name == "folder" else ():
            nodes[key]["inputs"]["unet_name"] = f"{name}/{names[key]}"
        places.pop("2", None)
    kept = {key: node for key, node in nodes.items() if key not in places}
    if family == "sd3":
        return gf.Workflow.from_json(kept).set("CheckpointLoaderSimple.ckpt_name", name)
    kept["c"] = {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": name}}
    for node in kept.values():
        inputs = node["inputs"].items()
        node["inputs"] = {key: places.get(v[0], v) if isinstance(v, list) else v for key, v in inputs}
    return gf.Workflow.from_json(kept)


def run(models, made):
    settings = gf.Settings(models=(models,), output_dir=models.parent, temp_dir=models.parent, device="cpu")
    with gf.Engine(settings=settings, cache=gf.Cache(memory=0)) as engine:
        assert engine.validate(made) == []
        (key,) = [key for key, node in made.to_json().items() if node["class_type"] == "VAEDecode"]
        return engine.run(made, targets=[key])[key].outputs["IMAGE"]


def test_a_checkpoint_and_a_folder_give_the_same_image(family, models):
    image = run(models, from_whole(family, "whole.safetensors"))
    assert image.shape[:3] == (1, 64, 64) and image.isfinite().all() and image.std() > 0.01
    assert torch.equal(run(models, from_whole(family, "folder")), image)


def test_all_parts_of_a_checkpoint_and_a_folder_are_found(family, models):
    for path in (models / "checkpoints").iterdir():
        header = read_header(path)
        assert identify(header).family == family and identify(header).supported
        _, seen = recognise(header)
        texts = {part for part in recognise(header)[0].parts if part.startswith("text.")}
        assert {"denoiser", *texts} <= seen.parts.keys(), path.name
        assert (recognise_vae(header) is None) is ((family, path.name) == ("ideogram4", "folder"))
