"""LoRAs of text encoders: they learn beside the denoiser, at their own rate, and their files load here and in
diffusers."""

import re

import pytest
import torch
from diffusers import StableDiffusionXLPipeline
from graphflow_nodes.training.low_rank import file_tensors
from safetensors.torch import load_file

from tests.graphs import graph
from tests.nodes.architectures import write_sdxl
from tests.nodes.library.training_runs import draw_things, run, settings_of, stopped, wrong


@pytest.fixture(scope="module")
def places(tmp_path_factory):
    root = tmp_path_factory.mktemp("texts")
    write_sdxl(root / "models" / "checkpoints" / "xl")
    (root / "models" / "loras").mkdir()
    draw_things(root / "input" / "things", [((16, 16), "red", "a red thing")] * 2, (2, 2, 8, 8))
    return root


@pytest.fixture
def settings(places, tmp_path):
    return settings_of(places, tmp_path)


def wanted():
    stated = {"model": "@m", "clip": "@m:1", "training_set": "@d", "class_set": "@d", "batch_size": 2, "rank": 2}
    stated |= {"alpha": 4.0, "learning_rate": 1e-2, "text_learning_rate": 2e-2, "weight_decay": 0.0}
    return graph(
        m=("NewModel", {"architecture": "xl", "seed": 1}),
        d=(
            "TrainingFolder",
            {"vae": "@m:2", "clip": "@m:1", "folder": "things", "resolution": 16, "bucket_step": 8},
        ),
        t=("TrainLora", {**stated, "steps": 6, "caption_dropout": 0.3}),
        w=("TrainLora", {**stated, "steps": 1, "text_learning_rate": 0.0}),
        a=("ApplyLora", {"model": "@m", "lora": "@t", "clip": "@m:1"}),
        p=("CLIPTextEncode", {"text": "a red thing", "clip": "@a:1"}),
        s=("SaveLora", {"lora": "@t", "save_dtype": "float32", "filename_prefix": "kohya"}),
        f=("SaveLora", {"lora": "@t", "save_dtype": "float32", "filename_prefix": "theirs", "names": "diffusers"}),
    ).to_json()


def layer_in_diffusers(name):
    """Its reader leaves the names of one file, and gives those of the other in an older form."""
    layer = re.sub(r"\.to_(q|k|v|out)_lora\..*", r".\1_proj", name)
    return re.sub(r"\.(lora_linear_layer|lora_[AB]|lora)\..*", "", layer)


def seen(result):
    return result["p"].outputs["CONDITIONING"][0][0]


def test_text_encoders_learn_with_a_lora_and_its_files_load_here_and_in_diffusers(settings, places, tmp_path):
    document = wanted()
    result = run(settings, tmp_path / "c", document, "t", "w", "p", "s", "f")
    layers = result["t"].outputs["lora"]["layers"]
    for part in ("text.l", "text.g"):
        names = [name for name in layers if name.startswith(f"{part}/")]
        assert {name.rsplit(".", 1)[1] for name in names} == {"q_proj", "k_proj", "v_proj", "out_proj", "fc1", "fc2"}
        assert any(layers[name]["up"].any() for name in names), "they learn"
        still = result["w"].outputs["lora"]["layers"]
        assert not any(still[name]["up"].any() for name in names), "at a rate of 0 they do not"
    assert any(one["up"].any() for name, one in result["w"].outputs["lora"]["layers"].items() if "/" not in name)

    kohya, theirs = (result[node].paths[0] for node in "sf")
    assert {name.split("_text_model")[0] for name in load_file(kohya) if "_te" in name} == {"lora_te1", "lora_te2"}
    document["a"] = {"class_type": "LoraLoader", "inputs": {"model": ["m", 0], "clip": ["m", 1]}}
    document["o"] = {"class_type": "CLIPTextEncode", "inputs": {"text": "a red thing", "clip": ["m", 1]}}
    for path in (kohya, theirs):
        (places / "models" / "loras" / path.name).write_bytes(path.read_bytes())
        document["a"]["inputs"]["lora_name"] = path.name
        found = run(settings, tmp_path / "d", document, "p", "o")
        assert torch.allclose(seen(found), seen(result), atol=1e-5)
        assert not torch.allclose(found["o"].outputs["CONDITIONING"][0][0], seen(result), atol=1e-3)
    first, _ = StableDiffusionXLPipeline.lora_state_dict(load_file(theirs))
    second, _ = StableDiffusionXLPipeline.lora_state_dict(load_file(kohya))
    ours, other = (
        {layer_in_diffusers(name) for name in found if name.startswith("text_encoder")} for found in (first, second)
    )
    assert ours == other and {name.split(".")[0] for name in ours} == {"text_encoder", "text_encoder_2"}
    assert len(ours) == sum("/" in name for name in layers), "diffusers reads all of them from both files"

    with_one = {**result["t"].outputs["lora"], "texts": ["text.l"]}
    with_one["layers"] = {name: one for name, one in layers.items() if name.startswith("text.l/")}
    assert all(
        name.startswith("lora_te_text_model_encoder_") for name in file_tensors(with_one, "kohya", torch.float32)
    )


def test_a_stop_changes_no_bit_where_text_encoders_have_a_rate_of_their_own(settings, tmp_path):
    document = wanted()
    whole = run(settings, tmp_path / "whole", document, "t")["t"].outputs
    assert stopped(settings, tmp_path / "cut", document, 3)[-1] == 3
    found = run(settings, tmp_path / "cut", document, "t")["t"].outputs
    assert whole["losses"] == found["losses"]
    for name, layer in whole["lora"]["layers"].items():
        assert all(torch.equal(one, found["lora"]["layers"][name][role]) for role, one in layer.items())
    document["t"]["inputs"]["optimizer"] = "Prodigy"
    assert "optimizer: Prodigy" in wrong(settings, tmp_path / "cut", document)
    document["x"] = {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": "graphflow-tiny"}}
    document["t"]["inputs"]["clip"] = ["x", 1]
    assert "clip: text is 96 wide" in wrong(settings, tmp_path / "cut", document)
