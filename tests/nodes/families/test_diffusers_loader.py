"""DiffusersLoader: pipeline folders below models/diffusers, of every family, as CheckpointLoaderSimple takes them."""

import json
import shutil

import pytest
import torch
from graphflow_nodes.files.folders import BUILTIN
from safetensors.torch import load_file

import graphflow as gf
from tests.graphs import graph

from . import tiny, tiny_flow, tiny_flux2, tiny_ltx, tiny_ltx2, tiny_modern, tiny_svd, tiny_wan
from .tiny_whole import WHOLE

FOLDERS = {
    **{family: whole.folder for family, whole in WHOLE.items() if family != "ideogram4"},
    **tiny_modern.FOLDERS,
    "z_image": lambda place: tiny_flow.save_folder(place, "z_image"),
    "lumina2": lambda place: tiny_flow.save_folder(place, "lumina2"),
    "flux2": tiny_flux2.save_folder,
    "ltx": tiny_ltx.save_folder,
    "ltx2": tiny_ltx2.save_folder,
    "wan": tiny_wan.save_folder,
    "svd": lambda place: tiny_svd.save_folder(place, tiny_svd.modules()),
    "sd1": lambda place: shutil.copytree(BUILTIN / "graphflow-tiny", place),
}
"""Family -> what writes its folder."""
WITHOUT_TEXTS = ("svd",)


def engine_of(models, **settings):
    return gf.Engine(settings=gf.Settings(models=(models,), device="cpu", **settings), cache=gf.Cache(memory=0))


def loaded(models, name, kind="DiffusersLoader", input="model_path"):
    with engine_of(models) as engine:
        return engine.run(graph(a=(kind, {input: name})), targets=["a"])["a"].outputs


@pytest.mark.parametrize("family", FOLDERS)
def test_a_folder_of_any_family_gives_what_checkpoint_loader_simple_gives(family, tmp_path):
    place = tmp_path / "diffusers" / "mine" / family
    place.parent.mkdir(parents=True)
    FOLDERS[family](place)
    found = loaded(tmp_path, f"mine/{family}")
    other = loaded(tmp_path, f"mine/{family}", "CheckpointLoaderSimple", "ckpt_name")
    assert found["MODEL"].family.name == family
    wanted = {"MODEL", "VAE"} if family in WITHOUT_TEXTS else {"MODEL", "CLIP", "VAE"}
    for name in wanted:
        assert found[name].identity() == other[name].identity(), name


def test_a_folder_draws_the_same_image_through_both_loaders(tmp_path):
    shutil.copytree(BUILTIN / "graphflow-tiny", tmp_path / "diffusers" / "mine")
    made = gf.Workflow.load("workflows/text_to_image.json").set("3.steps", 1).set("4.ckpt_name", "mine")
    nodes = made.to_json()
    nodes["4"] = {"class_type": "DiffusersLoader", "inputs": {"model_path": "mine"}}
    with engine_of(tmp_path) as engine:
        images = [
            engine.run(workflow, targets=["8"])["8"].outputs["IMAGE"]
            for workflow in (made, gf.Workflow.from_json(nodes))
        ]
    assert torch.equal(*images)


def test_only_pipeline_folders_are_listed(tmp_path):
    shutil.copytree(BUILTIN / "graphflow-tiny", tmp_path / "diffusers" / "mine")
    shutil.copytree(BUILTIN / "graphflow-tiny" / "vae", tmp_path / "diffusers" / "vae")
    shutil.copytree(BUILTIN / "graphflow-tiny", tmp_path / "checkpoints" / "other")
    tiny.tiny("sd1").save(tmp_path / "diffusers" / "file.safetensors")
    for name in ("vae", "other", "file.safetensors", "graphflow-tiny"):
        with engine_of(tmp_path) as engine:
            problem = engine.validate(graph(a=("DiffusersLoader", {"model_path": name})))[0]
        assert (problem.code, problem.input) == ("not_a_choice", "model_path"), name
        assert problem.hint == "models/diffusers holds: mine"


def test_of_a_folder_of_several_denoisers_each_has_a_name_and_texts_and_vae_come_with_all(tmp_path):
    place = tmp_path / "diffusers" / "wan"
    both = {"transformer": tiny_wan.denoiser(), "transformer_2": tiny_wan.denoiser("t2v", "wan.low")}
    tiny_wan.save_folder(place, **both)
    whole = loaded(tmp_path, "wan")
    assert isinstance(whole["MODEL"], gf.Blocked)
    assert "wan/transformer (high noise) and wan/transformer_2 (low noise)" in str(whole["MODEL"])
    assert whole["CLIP"].family.name == "wan" and whole["VAE"].latent.channels == 16
    sources = [loaded(tmp_path, f"wan/{name}")["MODEL"].source("denoiser").path for name in both]
    assert sources == [str(place / name) for name in both]


def test_a_folder_that_another_replaced_is_loaded_again(tmp_path):
    place = tmp_path / "diffusers" / "mine"
    shutil.copytree(BUILTIN / "graphflow-tiny", place)
    made = graph(a=("DiffusersLoader", {"model_path": "mine"}))
    with gf.Engine(settings=gf.Settings(models=(tmp_path,)), cache=gf.Cache()) as engine:
        first = engine.run(made, targets=["a"])["a"].outputs["MODEL"].identity()
        shutil.rmtree(place)
        shutil.copytree(BUILTIN / "graphflow-scenes", place)
        again = engine.run(made, targets=["a"])["a"].outputs["MODEL"].identity()
    assert first != again


@pytest.mark.parametrize(
    ("configs", "code", "what"),
    [
        ({"unet/config.json": {"_class_name": "UNet2DConditionModel"}}, "unreadable_model", "unet cannot be read"),
        ({}, "unknown_model", "mine holds no checkpoint that is known"),
    ],
)
def test_a_folder_that_cannot_be_loaded_is_refused_before_the_run(tmp_path, configs, code, what):
    place = tmp_path / "diffusers" / "mine"
    for name, content in {"model_index.json": {"_class_name": "OddPipeline"}, **configs}.items():
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        (place / name).write_text(json.dumps(content))
    with engine_of(tmp_path) as engine:
        problem = engine.validate(graph(a=("DiffusersLoader", {"model_path": "mine"})))[0]
    assert (problem.code, problem.input) == (code, "model_path") and what in problem.message


def test_a_folder_of_pickles_is_refused_where_checkpoints_of_torch_save_are(tmp_path):
    place = tmp_path / "diffusers" / "mine"
    shutil.copytree(BUILTIN / "graphflow-tiny", place)
    weights = place / "unet" / "diffusion_pytorch_model.safetensors"
    torch.save(load_file(weights), weights.with_suffix(".bin"))
    weights.unlink()
    with engine_of(tmp_path, pickles=False) as engine:
        problem = engine.validate(graph(a=("DiffusersLoader", {"model_path": "mine"})))[0]
    assert (problem.code, problem.input) == ("pickled_model", "model_path")
    assert loaded(tmp_path, "mine")["MODEL"].family.name == "sd1"
