"""Stable Diffusion XL and Z-Image in training: both learn, whole and by a LoRA, and their files load again."""

import pytest
import torch
from diffusers import StableDiffusionXLPipeline
from graphflow_nodes.families.opened import open_model
from graphflow_nodes.files.load import load_part
from graphflow_nodes.training.examples import read_set
from safetensors.torch import save_file

import graphflow as gf
from tests.graphs import graph
from tests.nodes.architectures import write_sdxl
from tests.nodes.families import tiny_flow
from tests.nodes.library.training_runs import draw_things, run, settings_of


@pytest.fixture(scope="module")
def places(tmp_path_factory):
    root = tmp_path_factory.mktemp("families")
    write_sdxl(root / "models" / "checkpoints" / "xl")
    (root / "models" / "loras").mkdir(parents=True)
    for folder, name, weights in (
        ("diffusion_models", "z.safetensors", tiny_flow.original(tiny_flow.z_image())),
        ("text_encoders", "qwen.safetensors", {f"model.{k}": v for k, v in tiny_flow.half(tiny_flow.qwen3()).items()}),
    ):
        (root / "models" / folder).mkdir()
        save_file(weights, root / "models" / folder / name)
    draw_things(root / "input" / "things", [((64, 32), "red", "a red thing")], (2, 2, 8, 8))
    return root


@pytest.fixture
def settings(places, tmp_path):
    return settings_of(places, tmp_path)


def compared(document, result):
    (_, after), (_, before) = (result[node].outputs["losses"]["validation"][0] for node in "tw")
    return after / before


def test_sdxl_learns_with_both_text_encoders_and_the_cut_as_a_condition(settings, tmp_path):
    stated = {"batch_size": 1, "steps": 25, "learning_rate": 3e-3, "validate_every": 25}
    document = graph(
        m=("NewModel", {"architecture": "xl", "seed": 1}),
        d=(
            "TrainingFolder",
            {"vae": "@m:2", "clip": "@m:1", "folder": "things", "resolution": 16, "bucket_step": 8, "longest": 1.0},
        ),
        t=(
            "TrainTextToImage",
            {"model": "@m", "clip": "@m:1", "training_set": "@d", "validation_set": "@d", **stated},
        ),
        a=("ApplyTrainedWeights", {"trained": "@t", "model": "@m", "clip": "@m:1", "vae": "@m:2"}),
        f=("DiffusersSave", {"model": "@a", "clip": "@a:1", "vae": "@a:2"}),
        i=("TrainTextualInversion", {"model": "@m", "clip": "@m:1", "training_set": "@d", "batch_size": 1, "steps": 1}),
        l=("TrainLora", {"model": "@m", "training_set": "@d", "batch_size": 1, "steps": 2, "rank": 2}),
    ).to_json()
    document["w"] = {"class_type": "TrainTextToImage", "inputs": {**document["t"]["inputs"], "steps": 1}}
    document["w"]["inputs"] |= {"learning_rate": 0.0, "weight_decay": 0.0, "validate_every": 1}
    result = run(settings, tmp_path / "c", document, "t", "w", "f", "d", "m", "i", "l")
    assert compared(document, result) < 0.9
    model = result["m"].outputs["MODEL"]
    (example,) = read_set(result["d"].outputs["TRAINING_SET"], model).examples
    prepared = model.family.net.prepare(model.config, example.entry, (4, 8, 8))
    # height, width, crop from the top and the left, height and width to aim at: 64 x 32 became 32 x 16, then 16 x 16
    assert prepared.vectors["sizes"].tolist() == [32, 64, 0, 8, 16, 16]
    trained = result["t"].outputs["trained"]["weights"]
    assert trained.keys() == {"denoiser", "text.l", "text.g"}
    pipeline = StableDiffusionXLPipeline.from_pretrained(result["f"].paths[0], local_files_only=True)
    for part, module in (("denoiser", pipeline.unet), ("text.g", pipeline.text_encoder_2)):
        theirs = module.state_dict()
        assert all(torch.equal(theirs[name], weight) for name, weight in trained[part].items())
    assert result["i"].outputs["embedding"]["vectors"].keys() == {"clip_l", "clip_g"}
    assert any(one["up"].any() for one in result["l"].outputs["lora"]["layers"].values())


def test_z_image_learns_its_flow_whole_and_by_a_lora(settings, places, tmp_path):
    stated = {"model": "@m", "training_set": "@d", "validation_set": "@d", "batch_size": 1}
    lora = {**stated, "steps": 16, "learning_rate": 3e-2, "validate_every": 16, "rank": 8, "alpha": 8.0}
    sampler = {"model": "@a", "positive": "@p", "negative": "@p", "latent_image": "@e", "steps": 2, "cfg": 1.0}
    document = graph(
        m=("UNETLoader", {"unet_name": "z.safetensors"}),
        c=("CLIPLoader", {"clip_name": "qwen.safetensors", "type": "lumina2"}),
        p=("CLIPTextEncode", {"text": "a red thing", "clip": "@c"}),
        e=("EmptySD3LatentImage", {"width": 64, "height": 64}),
        d=("TrainingExample", {"samples": "@e", "conditioning": "@p"}),
        t=("TrainLora", lora),
        w=("TrainLora", {**lora, "steps": 1, "learning_rate": 0.0, "validate_every": 1}),
        a=("ApplyLora", {"model": "@m", "lora": "@t"}),
        s=("SaveLora", {"lora": "@t", "save_dtype": "float32"}),
        k=("KSampler", {**sampler, "sampler_name": "euler", "scheduler": "simple"}),
        x=("TrainTextToImage", {**stated, "steps": 8, "learning_rate": 1e-4, "validate_every": 4}),
        b=("ApplyTrainedWeights", {"trained": "@x", "model": "@m"}),
        f=("ModelSave", {"model": "@b"}),
    ).to_json()
    result = run(settings, tmp_path / "c", document, "t", "w", "s", "k", "x", "f")
    assert compared(document, result) < 0.9
    applied = result["k"].outputs["LATENT"]["samples"]
    (places / "models" / "loras" / "z.safetensors").write_bytes(result["s"].paths[0].read_bytes())
    document["a"] = {"class_type": "LoraLoaderModelOnly", "inputs": {"model": ["m", 0], "lora_name": "z.safetensors"}}
    document["o"] = {"class_type": "KSampler", "inputs": {**document["k"]["inputs"], "model": ["m", 0]}}
    found = run(settings, tmp_path / "d", document, "k", "o")
    loaded, without = (found[node].outputs["LATENT"]["samples"] for node in "ko")
    assert torch.allclose(loaded, applied, atol=1e-4) and not torch.allclose(without, applied, atol=1e-2)
    first, last = result["x"].outputs["losses"]["validation"]
    assert last[1] < first[1]
    again = load_part(open_model(result["f"].paths[0], settings).model, "denoiser", torch.float32).state_dict()
    trained = result["x"].outputs["trained"]["weights"]["denoiser"]
    assert all(torch.equal(again[name], weight) for name, weight in trained.items())
    refused = {**document, "x": {**document["x"], "inputs": {**document["x"]["inputs"], "prediction": "epsilon"}}}
    with pytest.raises(gf.GraphFlowError, match="Z-Image has one prediction"):
        run(settings, tmp_path / "d", refused, "x")
