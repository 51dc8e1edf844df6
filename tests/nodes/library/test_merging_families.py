"""Merging by family: each weight has the share that its name in the file states, to the last bit."""

import json
from pathlib import Path

import pytest
import torch
from graphflow_nodes.families.opened import open_model
from graphflow_nodes.files.convert import place_of
from graphflow_nodes.files.load import load_part
from graphflow_nodes.model.family import part_config
from safetensors import safe_open
from safetensors.torch import load_file, save_file

import graphflow as gf
from tests.graphs import graph
from tests.nodes.families.denoisers import DENOISERS

EDITOR = Path(__file__).parents[2] / "data" / "editor" / "object_info.json"
FAMILIES = {
    "ModelMergeSD1": "sd1",
    "ModelMergeSD2": "sd2",
    "ModelMergeSDXL": "sdxl",
    "ModelMergeSD3_2B": "sd3",
    "ModelMergeSD35_Large": "sd3",
    "ModelMergeFlux1": "flux",
    "ModelMergeQwenImage": "qwen_image",
    "ModelMergeLTXV": "ltx",
    "ModelMergeWAN2_1": "wan",
}


def two_files(models, family):
    """A small model of a family, and another of its shapes; with the loader that takes them."""
    name, write = DENOISERS[family]
    write(models)
    (path,) = models.rglob(name)
    numbers = torch.Generator().manual_seed(0)
    other = {
        key: (one.float() + torch.randn(one.shape, generator=numbers)).to(one.dtype) if one.is_floating_point() else one
        for key, one in load_file(path).items()
    }
    with safe_open(path, "pt") as file:
        save_file(other, path.with_name("other.safetensors"), file.metadata())
    checkpoint = path.parent.name == "checkpoints"
    return path, ("CheckpointLoaderSimple", "ckpt_name") if checkpoint else ("UNETLoader", "unet_name")


def merged(models, path, loader, kind, **shares):
    load, name = loader
    made = graph(
        a=(load, {name: path.name}),
        b=(load, {name: "other.safetensors"}),
        m=(kind, {"model1": "@a", "model2": "@b", **shares}),
    )
    with gf.Engine(settings=gf.Settings(models=(models,), device="cpu"), cache=gf.Cache(memory=0)) as engine:
        return engine.run(made, targets=["m"])["m"].outputs["MODEL"]


def weights(handle):
    return load_part(handle, "denoiser", torch.float32).state_dict()


@pytest.mark.parametrize("kind", FAMILIES)
def test_every_weight_has_the_share_that_its_name_in_the_file_states(kind, tmp_path):
    path, loader = two_files(tmp_path, FAMILIES[kind])
    names = [name for name in gf.Registry.installed()[kind].inputs if name not in ("model1", "model2")]
    shares = {name: (37 * at + 11) % 101 / 100 for at, name in enumerate(names)}
    handle = merged(tmp_path, path, loader, kind, **shares)
    settings = gf.Settings(device="cpu")
    one, two = (weights(open_model(file, settings).model) for file in (path, path.with_name("other.safetensors")))
    source, stored = handle.source("denoiser"), load_file(path)
    table = handle.family.parts["denoiser"].layouts[source.layout](part_config(handle.config, "denoiser"))
    used = set()
    for name, weight in weights(handle).items():
        place = place_of(table, name)
        assert place is not None and source.prefix + place.key in stored, name
        fitting = [beginning for beginning in names if place.key.startswith(beginning)]
        share = shares[max(fitting, key=len)] if fitting else shares[names[0]]
        used.update(fitting)
        assert torch.equal(weight, share * one[name] + (1.0 - share) * two[name]), (name, share)
        assert one[name].numel() < 2 or not torch.equal(one[name], two[name])
    assert len(used) >= 4


def test_a_share_that_is_not_stated_is_the_whole_of_the_first(tmp_path):
    path, loader = two_files(tmp_path, "wan")
    found = weights(merged(tmp_path, path, loader, "ModelMergeWAN2_1", **{"blocks.1.": 0.0}))
    settings = gf.Settings(device="cpu")
    one, two = (weights(open_model(file, settings).model) for file in (path, path.with_name("other.safetensors")))
    for name, weight in found.items():
        assert torch.equal(weight, (two if name.startswith("blocks.1.") else one)[name]), name


@pytest.mark.parametrize("kind", FAMILIES)
def test_a_merge_by_family_has_the_inputs_that_comfyui_describes(kind):
    described = json.loads(EDITOR.read_text())[kind]["input"]["required"]
    inputs = gf.Registry.installed()[kind].inputs
    assert list(inputs) == list(described)
    for name in list(described)[2:]:
        limits = described[name][1]
        assert (inputs[name].default, inputs[name].range.min, inputs[name].range.max) == (
            limits["default"],
            limits["min"],
            limits["max"],
        )


@pytest.mark.parametrize(
    ("kind", "family"), [("ModelMergeLTXV", "wan"), ("ModelMergeWAN2_1", "ltx"), ("ModelMergeSDXL", "qwen_image")]
)
def test_a_model_without_blocks_of_these_names_is_refused(kind, family, tmp_path):
    path, loader = two_files(tmp_path, family)
    with pytest.raises(gf.GraphFlowError) as caught:
        merged(tmp_path, path, loader, kind)
    assert [(problem.code, problem.input) for problem in caught.value.problems] == [("unlike_models", "model1")]
