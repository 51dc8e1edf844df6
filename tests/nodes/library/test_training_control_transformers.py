"""ControlNets of transformers in training: each begins as a copy, learns, resumes with the same bits, and its folder
loads here and in diffusers."""

import diffusers
import pytest
import torch
from graphflow_nodes.families.controls import open_control
from graphflow_nodes.families.new_controls import new_control_for
from graphflow_nodes.families.opened import open_model
from graphflow_nodes.files.load import load_part
from graphflow_nodes.training.control import new_control

import graphflow as gf
from tests.graphs import graph
from tests.nodes.families.tiny_whole import WHOLE
from tests.nodes.library.training_runs import draw_things, equal, run, settings_of, stopped_and_resumed, wrong

CLASSES = {"sd3": "SD3ControlNetModel", "flux": "FluxControlNetModel", "qwen_image": "QwenImageControlNetModel"}
ZEROS = ("controlnet_", "pos_embed_input.")


@pytest.fixture(scope="module", params=CLASSES)
def family(request):
    return request.param


@pytest.fixture(scope="module")
def places(family, tmp_path_factory):
    root = tmp_path_factory.mktemp(family)
    for write in WHOLE[family].files.values():
        write(root / "models")
    (root / "models" / "controlnet").mkdir(parents=True)
    WHOLE[family].folder(root / "models" / "checkpoints" / "base")
    for folder, mark in (("things", (8, 8, 40, 40)), ("marks", (0, 0, 64, 8))):
        draw_things(root / "input" / folder, [((64, 64), "red", "red"), ((64, 64), "blue", "a big blue thing")], mark)
    return root


@pytest.fixture
def settings(places, tmp_path):
    return settings_of(places, tmp_path)


def document(**stated):
    folder = {"folder": "things", "resolution": 64, "bucket_step": 16, "hints": "folder", "hints_folder": "marks"}
    options = {"steps": 4, "batch_size": 2, "learning_rate": 1e-2, "caption_dropout": 0.3, "layers": 1, **stated}
    sampler = {"model": "@m", "positive": "@g", "negative": "@g:1", "latent_image": "@e", "steps": 2, "cfg": 1.0}
    control = {"positive": "@p", "negative": "@p", "image": "@i", "vae": "@m:2"}
    return graph(
        m=("CheckpointLoaderSimple", {"ckpt_name": "base"}),
        d=("TrainingFolder", {"vae": "@m:2", "clip": "@m:1", "encode_hints": True, **folder}),
        t=("TrainControlNet", {"model": "@m", "training_set": "@d", **options}),
        s=("ControlNetSave", {"control": "@t"}),
        n=("ApplyTrainedControlNet", {"control": "@t"}),
        i=("LoadImageSetFromFolderNode", {"folder": "marks"}),
        p=("CLIPTextEncode", {"text": "red", "clip": "@m:1"}),
        g=("ControlNetApplyAdvanced", {**control, "control_net": "@n"}),
        e=("EmptySD3LatentImage", {"width": 64, "height": 64}),
        k=("KSampler", {**sampler, "sampler_name": "euler", "scheduler": "normal"}),
        u=("KSampler", {**sampler, "positive": "@p", "negative": "@p", "sampler_name": "euler", "scheduler": "normal"}),
    ).to_json()


def test_it_learns_loads_here_and_in_diffusers_and_resumes_with_the_same_bits(family, settings, places, tmp_path):
    wanted = document()
    result = run(settings, tmp_path / "c", wanted, "t", "s", "k", "u")
    trained = result["t"].outputs["control"]["weights"]
    assert all(
        float(weight.abs().max()) > 0 for name, weight in trained.items() if name.startswith("controlnet_blocks")
    )
    (path,) = result["s"].paths
    theirs = getattr(diffusers, CLASSES[family]).from_pretrained(path, local_files_only=True)
    own = theirs.state_dict()
    assert own.keys() >= trained.keys() and all(torch.equal(own[name], weight) for name, weight in trained.items())
    opened = load_part(open_control(path, settings), "denoiser", torch.float32).state_dict()
    assert all(torch.equal(opened[name], own[name]) for name in opened.keys() & own.keys())
    steered, plain = (result[key].outputs["LATENT"]["samples"] for key in "ku")
    assert not torch.allclose(steered, plain, atol=1e-3)
    (places / "models" / "controlnet" / "made").symlink_to(path)
    wanted["n"] = {"class_type": "ControlNetLoader", "inputs": {"control_net_name": "made"}}
    assert torch.equal(run(settings, tmp_path / "d", wanted, "k")["k"].outputs["LATENT"]["samples"], steered)
    assert equal(stopped_and_resumed(settings, tmp_path / "cut", document(), 2)["control"]["weights"], trained)


def test_a_new_one_is_a_copy_of_the_first_blocks_and_its_answers_are_zero(family, settings, places, tmp_path):
    model = open_model(places / "models" / "checkpoints" / "base", settings).model
    new = new_control_for(model, layers=1)
    control, base = new_control(model, new, 0).state_dict(), load_part(model, "denoiser", torch.float32).state_dict()
    assert all((name in base and torch.equal(base[name], control[name])) or not control[name].any() for name in control)
    assert any(name.startswith("transformer_blocks.0.") for name in control)
    assert not any(name.startswith("transformer_blocks.1.") for name in control)
    assert all(not weight.any() for name, weight in control.items() if name.startswith(ZEROS))
    still = run(settings, tmp_path / "c", document(steps=1, learning_rate=0.0), "k", "u")
    assert torch.equal(*(still[key].outputs["LATENT"]["samples"] for key in "ku"))


@pytest.mark.parametrize("family", ["qwen_image"], indirect=True)
def test_a_hint_without_its_latent_and_more_blocks_than_there_are_are_refused(settings, tmp_path):
    wanted = document(layers=100)
    assert "layers: 100 blocks shall be copied, the model has" in wrong(settings, tmp_path / "a", wanted)
    wanted = document()
    wanted["d"]["inputs"]["encode_hints"] = False
    assert "sees the latent of a hint, which 2 examples lack, things/0.png for one" in wrong(
        settings, tmp_path / "b", wanted
    )


def test_other_families_are_refused_by_name(tmp_path):
    WHOLE["chroma"].folder(tmp_path / "chroma")
    with gf.Engine(settings=gf.Settings(device="cpu")) as engine:
        model = open_model(tmp_path / "chroma", engine.settings).model
    with pytest.raises(gf.GraphFlowError, match="Chroma") as caught:
        new_control_for(model)
    assert caught.value.problems[0].code == "not_trainable"


def test_positions_that_an_image_has_left_in_the_process_serve_a_training():
    """They are kept from pass to pass; tensors of inference mode would break the first backward pass."""
    from graphflow_nodes.families.kits.tokens import positions
    from graphflow_nodes.families.qwen_image.places import Positions, RowLayout, places_of

    with torch.inference_mode():
        grids = positions(((0, 3, 5, 0, 0),), torch.device("cpu"))
        turns = Positions((8, 28, 28))([RowLayout(places_of([(16, 1, 6, 10)], 2, False))], 7, torch.device("cpu"))
    assert not any(one.is_inference() for one in (grids, *turns))
