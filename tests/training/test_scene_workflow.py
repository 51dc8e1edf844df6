"""`make model`: the data of the model of scenes as files, and the workflow that trains it, to a folder that loads."""

import json
import re
from pathlib import Path

import pytest
from graphflow_nodes.families.opened import open_model
from PIL import Image
from safetensors import safe_open

import graphflow as gf
from training.scene_data import main, scenes_of
from training.scene_model import the_tokenizer
from training.scenes import THINGS, captions, is_held_out

ROOT = Path(__file__).parents[2]
WORKFLOW = ROOT / "training" / "workflows" / "scenes.json"
FEW = {
    "New Model.vocab_size": 560,
    "Train VAE.steps": 1,
    "Train VAE.batch_size": 2,
    "Train Decoder.steps": 1,
    "Train Decoder.batch_size": 2,
    "Train Text Encoder.steps": 2,
    "Train Text Encoder.batch_size": 4,
    "Train Text to Image.steps": 2,
    "Train Text to Image.batch_size": 4,
    "KSampler.steps": 1,
    "Empty Latent Image.batch_size": 1,
}


@pytest.fixture(scope="module")
def places(tmp_path_factory):
    root = tmp_path_factory.mktemp("model")
    main([str(root), "--images", "9", "--drawings", "2"])
    return root


@pytest.fixture(scope="module")
def made(places):
    settings = gf.Settings(
        device="cpu",
        models=(places / "models",),
        input_dir=places / "input",
        output_dir=places / "output",
        temp_dir=places / "temp",
    )
    workflow = gf.Workflow.load(WORKFLOW)
    for name, value in FEW.items():
        workflow = workflow.set(name, value)
    with gf.Engine(settings=settings, cache=gf.Cache(places / "cache")) as engine:
        return settings, engine.run(workflow)


def test_no_image_shows_what_is_held_out_and_one_and_two_things_have_as_many_captions():
    scenes = scenes_of(1800)
    assert not any(map(is_held_out, scenes))
    counts = [sum(len(captions(scene)) for scene in scenes if len(scene.things) == number) for number in (1, 2)]
    assert counts[0] == counts[1]
    assert scenes_of(90) == scenes[:90], "more images leave the first ones as they are"
    assert len({scene for scene in scenes if len(scene.things) == 1}) == 8 * len(THINGS)


def test_the_data_are_images_with_all_their_captions(places):
    rows = [json.loads(line) for line in (places / "input" / "scenes" / "metadata.jsonl").read_text().splitlines()]
    assert [len(row["text"]) for row in rows] == [4] * 5 + [5] * 4
    with Image.open(places / "input" / "scenes" / rows[0]["file_name"]) as image:
        assert image.size == (128, 128)


def test_the_workflow_trains_all_parts_to_a_folder_in_float16_that_loads_and_draws(made, places):
    settings, result = made
    (folder,) = result["10"].paths
    weights = sorted(folder.rglob("*.safetensors"))
    assert len(weights) == 3 and sum(path.stat().st_size for path in weights) < 20e6
    for path in weights:
        with safe_open(path, "np") as file:
            assert {file.get_slice(name).get_dtype() for name in file.keys()} == {"F16"}  # noqa: SIM118
    (places / "models" / "checkpoints" / "learnt").symlink_to(folder)
    again = gf.Workflow.from_json(
        {
            "m": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": "learnt"}},
            "t": {"class_type": "CLIPTextEncode", "inputs": {"text": "a cat on red", "clip": ["m", 1]}},
            "e": {"class_type": "EmptyLatentImage", "inputs": {"width": 128, "height": 128}},
            "k": {
                "class_type": "KSampler",
                "inputs": {
                    **{"model": ["m", 0], "positive": ["t", 0], "negative": ["t", 0], "latent_image": ["e", 0]},
                    **{"steps": 1, "cfg": 1.0, "sampler_name": "euler", "scheduler": "normal"},
                },
            },
            "d": {"class_type": "VAEDecode", "inputs": {"samples": ["k", 0], "vae": ["m", 2]}},
        }
    )
    with gf.Engine(settings=settings) as engine:
        image = engine.run(again, targets=["d"])["d"].outputs["IMAGE"]
    assert tuple(image.shape) == (1, 128, 128, 3) and bool(image.isfinite().all())


def test_the_folder_has_the_modules_of_the_script_and_a_vocabulary_of_its_captions(made, places, tmp_path):
    settings, result = made
    (folder,) = result["10"].paths
    opened = open_model(folder, settings)
    stated = json.loads((folder / "unet" / "config.json").read_text())
    wanted = json.loads((places / "models" / "checkpoints" / "scenes" / "unet" / "config.json").read_text())
    assert {name: stated[name] for name in ("block_out_channels", "cross_attention_dim", "sample_size")} == {
        name: wanted[name] for name in ("block_out_channels", "cross_attention_dim", "sample_size")
    }
    tokenizer = the_tokenizer(folder / "tokenizer")
    assert "background</w>" in tokenizer.get_vocab() and len(tokenizer) == 560
    assert opened.clip.config["text.l"].vocab_size == len(tokenizer)
    assert opened.model.config.latent.scale == result["3"].outputs["trained"]["unit"]["scale"]


@pytest.mark.parametrize("name", ["lora", "controlnet"])
def test_what_changes_the_model_of_the_package_is_trained_by_a_workflow_to_a_file_that_loads(places, tmp_path, name):
    models = tmp_path / "models"
    settings = gf.Settings(
        device="cpu",
        models=(models,),
        input_dir=places / "input",
        output_dir=tmp_path / "output",
        temp_dir=tmp_path / "temp",
    )
    workflow = gf.Workflow.load(WORKFLOW.with_name(f"scenes_{name}.json"))
    trainer = {"lora": "Train LoRA", "controlnet": "Train ControlNet"}[name]
    for input, value in {"steps": 1, "lr_warmup_steps": 0, "batch_size": 2}.items():
        workflow = workflow.set(f"{trainer}.{input}", value)
    with gf.Engine(settings=settings, cache=gf.Cache(places / "cache")) as engine:
        (path,) = engine.run(workflow).paths
    kind = path.parent.name  # also that of the folder of models
    (models / kind).mkdir(parents=True)
    (models / kind / path.name).symlink_to(path)
    nodes = {"m": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": "graphflow-scenes"}}}
    if kind == "loras":
        link = {"model": ["m", 0], "clip": ["m", 1]}
        nodes["l"] = {"class_type": "LoraLoader", "inputs": {"lora_name": path.name, **link}}
    else:
        nodes["l"] = {"class_type": "ControlNetLoader", "inputs": {"control_net_name": path.name}}
        assert sum(file.stat().st_size for file in path.rglob("*.safetensors")) < 6_000_000
    with gf.Engine(settings=settings) as engine:
        found = engine.run(gf.Workflow.from_json(nodes), targets=["l"])["l"].outputs
    assert {"MODEL", "CLIP"} <= set(found) or "CONTROL_NET" in found


def test_make_model_runs_these_very_programs():
    recipe = re.search(r"^model:.*\n((?:\t.*\n)+)", (ROOT / "Makefile").read_text(), re.M)[1]
    assert "-m training.scene_data" in recipe and f"run {WORKFLOW.relative_to(ROOT)}" in recipe
